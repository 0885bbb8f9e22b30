"""Answers as a model would give them, without a model."""

import numpy as np
import pytest
from PIL import Image

from openferret.answer import Answer, LocatedBox, Mention
from openferret.labelling.job import LabelledPicture
from openferret.regions import Box


def answer(found, size=(60, 40)):
    """An answer from {name: [score, ...]}; box n of a name begins n pixels from the left."""
    text, mentions = "", []
    for name, scores in found.items():
        boxes = tuple(
            LocatedBox.of(Box(n, 2, n + 20, 30), *size, score) for n, score in enumerate(scores, start=1)
        )
        mentions.append(Mention(name, (len(text), len(text) + len(name)), boxes))
        text += name + " "
    return Answer(text, tuple(mentions), *size, "fake")


@pytest.fixture
def labelled(tmp_path):
    """Write a grey picture and give it with what was found in it."""

    def write(name, found, size=(60, 40)):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((size[1], size[0], 3), 90, np.uint8)).save(path)
        return LabelledPicture(path, name, answer(found, size))

    return write
