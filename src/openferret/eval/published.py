"""Figures of the paper and of others that stand in a published text and were checked there.

Only what a report may print beside ours. Everything else that circulates is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A figure of a model in percent or points.

    Args:
        model: as its authors call it.
        figure: the name that it has in a results file of ours.
        value: in percent, or points where ours is in points.
        where: the split or set, where a results file does not tell them apart.
    """

    model: str
    figure: str
    value: float
    where: str = ""


def _rows(model: str, names: str, *values: float) -> tuple[Published, ...]:
    """Names of ours, separated by semicolons; what stands after @ is the split."""
    cut = [name.split(" @ ") for name in names.split("; ")]
    return tuple(
        Published(model, figure, value, "".join(where))
        for (figure, *where), value in zip(cut, values, strict=True)
    )


_LVIS = "accuracy, point; accuracy, box; accuracy, free-form"
_REFCOCO = "; ".join(
    f"Acc@0.5 @ {name}"
    for name in (
        *(
            "RefCOCO val",
            "RefCOCO testA",
            "RefCOCO testB",
            "RefCOCO+ val",
            "RefCOCO+ testA",
            "RefCOCO+ testB",
        ),
        *("RefCOCOg val", "RefCOCOg test"),
    )
)
_POPE = "accuracy; precision; recall; F1; said yes"
_POPE_ALL = "; ".join(
    f"{name}, {kind}" for kind in ("random", "popular", "adversarial") for name in _POPE.split("; ")
)
_BENCH = "; ".join(
    f"judge, {name}: model / reference x 100" for name in ("refer_desc", "refer_reason", "ground_conv")
)

PUBLISHED: Mapping[str, tuple[Published, ...]] = {
    "lvis-refer": (
        *_rows("Ferret-7B", _LVIS, 67.94, 79.42, 69.77),
        *_rows("Ferret-13B", _LVIS, 68.35, 80.46, 70.98),
        *_rows("Shikra-7B", "accuracy, point; accuracy, box", 57.82, 67.71),
        *_rows("Kosmos-2", "accuracy, box", 60.25),
        *_rows("Ferret-v2-13B", _LVIS, 75.09, 87.74, 76.35),
    ),
    "refexp": (
        *_rows("Ferret-7B", _REFCOCO, 87.49, 91.35, 82.45, 80.78, 87.38, 73.14, 83.93, 84.76),
        *_rows("Ferret-7B, reproduced by others", "Acc@0.5 @ RefCOCO testA", 89.46),
        *_rows("Ferret-13B", _REFCOCO, 89.48, 92.41, 84.36, 82.81, 88.14, 75.17, 85.83, 86.34),
        *_rows("Ferret-v2-13B", _REFCOCO, 92.6, 95.0, 88.9, 87.4, 92.1, 81.4, 89.4, 90.0),
    ),
    "flickr30k-entities": (
        *_rows("Ferret-7B", "R@1, merged boxes @ val", 80.39),
        *_rows("Ferret-13B", "R@1, merged boxes @ val; R@1, merged boxes @ test", 81.13, 84.76),
    ),
    "grounded-caption": _rows(
        "Ferret-13B", "CIDEr (coco-caption's: CIDEr-D); F1_all; F1_loc", 76.1, 15.12, 38.03
    ),
    "pope": (
        *_rows(
            "Ferret-13B",
            _POPE_ALL,
            *(90.24, 97.72, 83.00, 89.76, 43.78),
            *(84.90, 88.24, 80.53, 84.21, 45.63),
            *(82.36, 83.60, 80.53, 82.00, 48.18),
        ),
        *_rows(
            "Shikra-7B",
            _POPE_ALL,
            *(86.90, 94.40, 79.26, 86.19, 43.26),
            *(83.97, 87.55, 79.20, 83.16, 45.23),
            *(83.10, 85.60, 79.60, 82.49, 46.50),
        ),
    ),
    "ferret-bench": (
        *_rows("Ferret-7B, judged by gpt-4-0314", _BENCH, 68.7, 67.3, 57.5),
        *_rows("Ferret-13B, judged by gpt-4-0314", _BENCH, 70.6, 68.7, 59.7),
        *_rows("Shikra-7B, judged by gpt-4-0314", _BENCH, 46.0, 41.6, 50.1),
        *_rows("Kosmos-2, judged by gpt-4-0314", _BENCH, 51.8, 33.7, 48.4),
    ),
}
