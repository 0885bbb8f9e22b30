"""Which pictures are learned from, and which are kept for measuring: by a hash of their names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from openferret.train.finetune.own_data import OwnPicture


def split_pictures(
    pictures: Sequence[OwnPicture], share: float, seed: int
) -> tuple[list[OwnPicture], list[OwnPicture]]:
    """Pictures to learn from, and those held out; the same for the same names and seed.

    Of each class some pictures stay on either side where it has two or more; a class on one picture is learned.

    Args:
        pictures: all of them.
        share: of the pictures that is held out, 0..1.
        seed: of the choice.

    Returns:
        Both in the order of `pictures`.
    """
    order = sorted(pictures, key=lambda one: hashlib.sha256(f"{seed} {one.file}".encode()).hexdigest())
    wanted = max(1, round(share * len(pictures)))
    left: dict[str, int] = {}
    for one in pictures:
        for name in one.boxes:
            left[name] = left.get(name, 0) + 1
    held: dict[str, OwnPicture] = {}
    unseen = {name for name, count in left.items() if count > 1}
    # First one picture for each class that has none yet, then whatever comes.
    for first in (True, False):
        for one in order:
            enough = len(held) >= wanted and not (first and unseen)
            if enough or one.file in held or (first and not unseen & set(one.boxes)):
                continue
            if all(left[name] > 1 for name in one.boxes):
                held[one.file] = one
                unseen -= set(one.boxes)
                for name in one.boxes:
                    left[name] -= 1
    learned = [one for one in pictures if one.file not in held]
    return learned, [one for one in pictures if one.file in held]
