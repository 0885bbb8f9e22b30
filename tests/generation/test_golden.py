"""Kit's answers in both engines: the words, boxes and probabilities of the fast one are those of transformers.

Nothing is stored: both engines are asked anew, so other weights need no new files. `pytest -m slow -s` prints what
was found.
"""

from __future__ import annotations

import math
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest

from openferret import Ferret, prompts
from openferret.coordinates import to_bin
from openferret.generation.decode import Decoding, decode
from openferret.generation.questions import write_question
from openferret.regions import Box, Point

PICTURES = sorted((Path(__file__).parents[2] / "examples" / "pictures").glob("*.jpg"))
PHRASES = ["a woman", "a man", "a cat", "a cup", "a spoon", "the face", "a red thing"]
RANDOM_BOXES = 30  # of each picture
TIE = 0.03  # two words this near in the logarithm of their probability may change places
ODDS = 0.25  # most that the logarithm of a word's odds may differ: 0.105 where it was measured

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engines():
    fast = Ferret.load()
    if fast.loaded.engine.name != "fast":
        pytest.skip("the fast engine is not chosen on this machine")
    return Ferret.load(engine="reference"), fast


@pytest.fixture(scope="module")
def scenes(engines):
    return [[ferret.encode(picture) for ferret in engines] for picture in PICTURES]


def questions(width, height):
    """What nine boxes, nine places and thirty random boxes are, is something there, and what is on the picture."""
    thirds = [(x, y) for x in (0.2, 0.5, 0.8) for y in (0.2, 0.5, 0.8)]
    draw = np.random.default_rng(0)
    corners = [np.sort(draw.uniform(0, 1, (2, 2)), 0) for _ in range(RANDOM_BOXES)]
    regions = [
        *(
            Box(*(width * (x - 0.15), height * (y - 0.15)), width * (x + 0.15), height * (y + 0.15))
            for x, y in thirds
        ),
        *(Point(width * x, height * y) for x, y in thirds),
        *(
            Box(*(width * low[0], height * low[1]), width * high[0] + 8, height * high[1] + 8)
            for low, high in corners
        ),
    ]
    yield from ((prompts.REFER.format(region="[0]"), [region]) for region in regions)
    yield from ((prompts.EXISTS.format(phrase=phrase), []) for phrase in PHRASES)
    yield prompts.DESCRIBE, []


def answers(scene):
    """Everything as the model wrote it, all questions of a picture together."""
    processor = scene.loaded.processor
    asked = [
        write_question(processor, text, regions, scene.image.size)
        for text, regions in questions(scene.width, scene.height)
    ]
    return decode(scene.loaded.model, processor, scene.prefix, asked, Decoding(max_new_tokens=48))


def test_phrases_are_found_in_the_same_boxes(scenes):
    for pair in scenes:
        for how in ({"threshold": 0.0}, {}, {"merge": True}):
            reference, fast = (scene.ground(PHRASES, **how) for scene in pair)
            assert fast.text == reference.text
            for ours, theirs in zip(fast.mentions, reference.mentions, strict=True):
                bins = [
                    [to_bin(1000 * side, 1000) for box in one.boxes for side in box.normalized]
                    for one in (ours, theirs)
                ]
                assert np.abs(np.subtract(*bins)).max(initial=0) <= 2


def test_answers_have_the_same_words_but_for_ties(scenes):
    """Word for word, unless the two most probable next words are as good as equal; and each as sure of them."""
    asked, ties, differences = 0, [], []
    for pair in scenes:
        for reference, fast in zip(*map(answers, pair), strict=True):
            asked += 1
            both = list(zip(reference.ids, fast.ids, strict=False))
            if reference.ids == fast.ids:
                assert len(reference.box_scores) == len(fast.box_scores)
                differences += map(_odds, reference.probabilities, fast.probabilities)
                continue
            ties.append((reference.text, fast.text))
            alike = len(list(takewhile(lambda one: one[0] == one[1], both)))
            place = _chosen(pair[0].loaded, reference.ids[:alike])
            chosen = reference.probabilities[place], fast.probabilities[place]
            assert abs(math.log(chosen[0] / chosen[1])) <= TIE, ties[-1]
    worst = max(differences)
    print(
        f"\n{asked - len(ties)} of {asked} answers are word for word the same; of {len(differences)} words the "
        f"log odds differ by {np.median(differences):.4f} (median), {worst:.4f} (most); ties: {ties}"
    )
    assert len(ties) <= 0.01 * asked
    assert worst <= ODDS


def _chosen(loaded, ids):
    """How many tokens the language model has chosen: a locator's, which have no probability, are left out."""
    config = loaded.model.config
    located = [one >= config.first_location_token_id for one in ids]
    more = [
        one == config.box_token_id and before for one, before in zip(ids, [False, *located], strict=False)
    ]
    return len(ids) - sum(located) - sum(more)


def _odds(first, second):
    """How far two probabilities are apart, near 1 as near 0."""
    values = [math.log(max(one, 1e-12) / max(1 - one, 1e-12)) for one in (first, second)]
    return abs(values[0] - values[1]) if max(first, second) < 1 - 1e-6 else 0.0
