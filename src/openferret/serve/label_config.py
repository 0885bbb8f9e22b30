"""A Label Studio labelling interface, as far as boxes go: which names are looked for on which picture.

It comes from whoever edits a project, so the XML is parsed without entities, DTDs or external files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from openferret.checks import shorten
from openferret.serve.errors import ServeError

LONGEST_CONFIG = 200_000  # characters
_MOST_LABELS = 1000
_LONGEST_LABEL = 512


@dataclass(frozen=True)
class BoxControl:
    """A `<RectangleLabels>` of an interface.

    Args:
        name: of the control, which results are `from_name`.
        image: name of the `<Image>` that it labels, which results are `to_name`.
        field: of a task's data that holds the picture.
        phrases: (what is looked for, the label that it gets), in order.
        threshold: least score of a box, 0..1: the control's `model_score_threshold` or `score_threshold`.
    """

    name: str
    image: str
    field: str
    phrases: tuple[tuple[str, str], ...]
    threshold: float = 0.0


def read_label_config(text: str) -> list[BoxControl]:
    """The box controls of an interface, in order; none if it labels something else.

    A label's `predicted_values="car, truck"` is looked for in its place.

    Raises:
        ServeError: 422 for XML that is damaged, has entities or a DTD, or has too many labels.

    >>> config = '<View><Image name="i" value="$image"/><RectangleLabels name="l" toName="i">'
    >>> read_label_config(config + '<Label value="Cat"/></RectangleLabels></View>')[0].phrases
    (('Cat', 'Cat'),)
    """
    try:
        root = fromstring(text, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError):
        raise ServeError(
            422, "invalid_label_config", "the labelling interface is not XML that can be read (DTDs are not)"
        ) from None
    fields = {one.get("name", ""): one.get("value", "").removeprefix("$") for one in root.iter("Image")}
    controls = []
    for element in root.iter("RectangleLabels"):
        image = next((name for name in element.get("toName", "").split(",") if fields.get(name)), None)
        phrases = _phrases(element)
        if image is not None and phrases:
            controls.append(
                BoxControl(element.get("name", ""), image, fields[image], phrases, _threshold(element))
            )
    if sum(len(control.phrases) for control in controls) > _MOST_LABELS:
        raise ServeError(
            422, "too_many_labels", f"the labelling interface has more than {_MOST_LABELS} labels"
        )
    return controls


def _phrases(element: Any) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for label in element.iter("Label"):
        value = label.get("value", "")
        for phrase in (
            label.get("predicted_values", "").split(",") if label.get("predicted_values") else [value]
        ):
            words = " ".join(phrase.split())
            if len(words) > _LONGEST_LABEL:
                raise ServeError(422, "invalid_label", f"the label {shorten(words)!r} is too long")
            if words:
                found.setdefault(words, value)
    return tuple(found.items())


def _threshold(element: Any) -> float:
    given = element.get("model_score_threshold", element.get("score_threshold", "0"))
    try:
        least = float(given)
    except ValueError:
        least = math.nan
    if not 0 <= least <= 1:
        raise ServeError(422, "invalid_threshold", f"a score threshold is 0 to 1, not {shorten(given)!r}")
    return least
