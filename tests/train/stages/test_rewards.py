from __future__ import annotations

import pytest
import torch

from openferret.answer import Answer, LocatedBox, Mention
from openferret.flickr30k import Caption, EntityPhrase
from openferret.regions import Box
from openferret.train.stages.rewards import CaptionRewards, Earned, advantages

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


def caption(text: str, *phrases: tuple[str, tuple[float, float, float, float]]) -> Caption:
    said = []
    for words, box in phrases:
        start = text.index(words)
        said.append(EntityPhrase(words, "1", "other", (start, start + len(words)), (box,)))
    return Caption(text, tuple(said))


def answer(text: str, *phrases: tuple[str, tuple[float, float, float, float]]) -> Answer:
    mentions = []
    for words, box in phrases:
        start = text.index(words)
        located = LocatedBox.of(Box(*(side * 100 for side in box)), 100, 100)
        mentions.append(Mention(words, (start, start + len(words)), (located,)))
    return Answer(text, tuple(mentions), 100, 100)


@pytest.fixture(scope="module")
def rewards():
    return CaptionRewards(
        [
            [caption("A dog chases a ball.", ("A dog", LEFT), ("a ball", RIGHT)), caption("A dog runs.")],
            [caption("A man in a red hat sings.", ("A man", LEFT))],
            [caption("Two women ride bikes.")],
        ]
    )


def test_what_captions_say_earns_more_than_what_they_do_not(rewards):
    said, other = answer("A dog chases a ball."), answer("A man in a red hat sings.")
    assert rewards.earned(said, 0).consensus > rewards.earned(other, 0).consensus
    assert rewards.earned(other, 1).consensus > rewards.earned(said, 1).consensus


def test_a_sentence_that_was_cut_earns_less(rewards):
    said = answer("A dog chases a ball.")
    assert rewards.earned(said, 0, complete=False).consensus < rewards.earned(said, 0).consensus
    broken = answer("A dog chases a ball in a")
    assert rewards.earned(broken, 0).consensus < rewards.earned(said, 0).consensus


@pytest.mark.parametrize(
    ("phrases", "things"),
    [
        ((("A dog", LEFT), ("a ball", RIGHT)), 1.0),
        ((("A dog", LEFT), ("a ball", LEFT)), 0.5),
        ((("A dog", LEFT),), 2 / 3),
        ((), 0.0),
    ],
)
def test_things_count_where_they_are(rewards, phrases, things):
    assert rewards.earned(answer("A dog chases a ball.", *phrases), 0).things == pytest.approx(things)


def test_nothing_to_name_and_nothing_named_earns_nothing(rewards):
    assert rewards.earned(answer(""), 2) == Earned(0.0, 0.0)


def test_advantages_sum_to_nothing_for_each_picture_and_equal_marks_teach_nothing():
    gained = advantages(torch.tensor([[1.0, 0.5, 0.0], [2.0, 2.0, 2.0]]))
    assert torch.allclose(gained.sum(1), torch.zeros(2), atol=1e-6)
    assert gained[0, 0] > 0 > gained[0, 2]
    assert not gained[1].any()
    assert not advantages(torch.ones(3, 2)).any()
