"""What a description earns: how well people's captions agree with it, and whether what it names is where it says.

The first is CIDEr-D (arXiv 1411.5726), which self-critical training raises since arXiv 1612.00563; its end counts as a
word, or sentences would stop in the middle of "with a". The second is F1 of the named and boxed things.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from openferret.answer import Answer
from openferret.eval.metrics.boxes import BoxNumbers, best_overlap, hull
from openferret.eval.metrics.captions import Cider, tokenize
from openferret.flickr30k import Caption
from openferret.nouns import head_noun

_END = "."  # no word of `tokenize`


@dataclass(frozen=True)
class Earned:
    """A description's marks.

    Attributes:
        consensus: CIDEr-D with its end as a word, 0..10.
        things: F1 of the named and boxed things, 0..1.
    """

    consensus: float
    things: float


class CaptionRewards:
    """Marks descriptions of some pictures.

    Args:
        captions: of each picture, at least one; at least two pictures, as words weigh by how few pictures have them.
    """

    def __init__(self, captions: Sequence[Sequence[Caption]]) -> None:
        self._cider = Cider([[[*tokenize(one.text), _END] for one in several] for several in captions])
        self._wanted = [_things(several) for several in captions]

    def earned(self, answer: Answer, picture: int, complete: bool = True) -> Earned:
        """The marks of a description.

        Args:
            answer: the description.
            picture: its place among the pictures.
            complete: it came to its end.
        """
        tokens = [*tokenize(answer.text), *([_END] if complete else [])]
        wanted, named = self._wanted[picture], _named(answer)
        right = sum(best_overlap([box], wanted[head]) > 0.5 for head, box in named.items() if head in wanted)
        count = len(named) + len(wanted)
        return Earned(self._cider.cider_d(tokens, picture), 2 * right / count if count else 0.0)


def advantages(earned: Tensor) -> Tensor:
    """What descriptions earned beyond the mean of the others of their picture (arXiv 2003.09971), by the spread of all.

    Args:
        earned: float [pictures, descriptions], at least two descriptions.

    Returns:
        float [pictures, descriptions]; they sum to 0 for each picture.

    Example:
        >>> import torch
        >>> advantages(torch.tensor([[1.0, 0.0], [3.0, 2.0]])).tolist()
        [[1.0, -1.0], [1.0, -1.0]]
    """
    count = earned.shape[1]
    others = (earned.sum(1, keepdim=True) - earned) / (count - 1)
    beyond = earned - others
    spread = beyond.square().mean().sqrt()
    return beyond / spread if spread > 0 else beyond


def _things(captions: Sequence[Caption]) -> dict[str, list[BoxNumbers]]:
    wanted: dict[str, list[BoxNumbers]] = {}
    for caption in captions:
        for phrase in caption.phrases:
            if phrase.boxes and (head := head_noun(phrase.text)):
                wanted.setdefault(head, []).append(hull(phrase.boxes))
    return wanted


def _named(answer: Answer) -> dict[str, BoxNumbers]:
    named: dict[str, BoxNumbers] = {}
    for mention in answer.mentions:
        if mention.boxes and (head := head_noun(mention.phrase)):
            named.setdefault(head, hull([box.normalized for box in mention.boxes]))
    return named
