"""The one sample type: a conversation about a picture, with regions in pixels, for training, checks and export.

What may stand in the text of a turn is told in `openferret.data.marks`; docs/data.md tells it to a reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from openferret.checks import shorten
from openferret.data.marks import find_marks
from openferret.data.outlines import RunLengths, region_from_dict, region_to_dict
from openferret.decoding import MAX_PIXELS
from openferret.errors import InputError
from openferret.regions import Box, Mask, Point, Region, region_bounds

SCHEMA_VERSION = 1

Role: TypeAlias = Literal["user", "assistant"]
_ROLES: tuple[Role, Role] = ("user", "assistant")
_REGIONS = get_args(Region)


@dataclass(frozen=True, slots=True)
class PictureReference:
    """A picture that is not opened: where it lies, and how large it is.

    Args:
        file: its path below the folder of its source's pictures, or its name in tar shards; "/" between parts.
        width: of the upright picture in pixels; 0 if nobody has said.
        height: of the upright picture in pixels; 0 if nobody has said.
        source: name of the source, as "coco".
        id: of the picture in its source.
        same_as: the same picture elsewhere, as "coco:493652" or "flickr30k:36979"; leak filters look at these.
        fingerprint: perceptual hash in 16 hexadecimal digits (`openferret.eval.leaks.perceptual_hash`), or "".

    Raises:
        InputError: no file, or a size that is no size.

    >>> PictureReference("1.jpg", 640, 480, "coco", "1").known_size
    True
    """

    file: str
    width: int
    height: int
    source: str
    id: str
    same_as: tuple[str, ...] = ()
    fingerprint: str = ""

    def __post_init__(self) -> None:
        _texts(self, "file", "source", "id", "fingerprint")
        object.__setattr__(self, "same_as", tuple(self.same_as))
        if not all(isinstance(one, str) for one in self.same_as):
            raise InputError(f"picture {shorten(self.file)}: same_as must be a list of texts")
        if not self.file:
            raise InputError("a picture needs a file")
        sides = (self.width, self.height)
        if (
            not all(type(side) is int and side >= 0 for side in sides)
            or (not all(sides) and any(sides))
            or self.width * self.height > MAX_PIXELS
        ):
            raise InputError(
                f"picture {shorten(self.file)}: its size must be two whole numbers of pixels, or 0 and 0 where it "
                f"is not known, and at most {MAX_PIXELS} pixels in all, not {shorten(repr(self.width))} x "
                f"{shorten(repr(self.height))}"
            )

    @property
    def known_size(self) -> bool:
        """Whether its size is known; without it nothing on it can have a box."""
        return self.width > 0


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says.

    Args:
        role: "user" or "assistant".
        text: words and marks (`openferret.data.marks`); never empty.

    Raises:
        InputError: another role, or no text.
    """

    role: Role
    text: str

    def __post_init__(self) -> None:
        if self.role not in _ROLES:
            raise InputError(f'a turn is the "user"\'s or the "assistant"\'s, not {shorten(repr(self.role))}')
        if not isinstance(self.text, str) or not self.text.strip():
            raise InputError(f"the {self.role}'s turn has no text")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a sample is from: empty texts where there is nothing to say.

    Args:
        source: name of the source, as "visual_genome".
        licence: of the annotation, as "CC BY 4.0".
        record: what of the source it was made from, as "image 1, relationship 15927".
        template: the template, with its number, that wrote it.
        generator: what made it: a rule's name, or a model's name and its prompt's digest.
    """

    source: str = ""
    licence: str = ""
    record: str = ""
    template: str = ""
    generator: str = ""

    def __post_init__(self) -> None:
        _texts(self, "source", "licence", "record", "template", "generator")


@dataclass(frozen=True)
class Sample:
    """A conversation about one picture.

    Args:
        id: of the sample; unique in a data set.
        picture: None for a conversation without one; then there are no regions.
        turns: question, answer, question, answer... The picture stands before the first question, unless that
            question says where with "<image>".
        regions: in pixels of the upright picture. `<region:k>` in a question points at region k, `<box:k>` in an
            answer gives its box. A Box may be shown as a point, a box or a free shape when it is loaded; any other
            kind is shown as it is. Each is mentioned at least once, and may be by several turns.
        masks: for each region the whole thing's outline, or None; empty if there are none at all.
        provenance: where it is from.
        negative: whether its right answer is that something is not there.
        task: what it teaches, as "object" or "relationship".
        version: of this form.
        extra: what the file it was read from says beyond this form; values of JSON.

    Raises:
        InputError: anything that does not hold of the above, with the sample's id.

    >>> box = Box(10, 20, 200, 220)
    >>> picture = PictureReference("1.jpg", 640, 480, "coco", "1")
    >>> turns = (Turn("user", "What is <region:0>?"), Turn("assistant", "<phrase>A cat <box:0>."))
    >>> Sample("1", picture, turns, (box,)).regions[0].x2
    200.0
    """

    id: str
    picture: PictureReference | None
    turns: tuple[Turn, ...]
    regions: tuple[Region, ...] = ()
    masks: tuple[RunLengths | None, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)
    negative: bool = False
    task: str = "dialogue"
    version: int = SCHEMA_VERSION
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("turns", "regions", "masks"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.masks and not any(self.masks):
            object.__setattr__(self, "masks", ())
        _texts(self, "id", "task")
        if not self.id:
            raise InputError("a sample needs an id")
        problem = self._problem()
        if problem:
            raise InputError(f"sample {shorten(self.id)}: {problem}")

    def _problem(self) -> str:
        if self.version != SCHEMA_VERSION:
            return f"it is of version {shorten(repr(self.version))} of this form; version {SCHEMA_VERSION} can be read"
        negative: object = self.negative  # whatever was given
        if not isinstance(negative, bool):
            return f"negative must be true or false, not {shorten(repr(negative))}"
        return _problem_of_turns(self.turns, len(self.regions)) or self._problem_of_regions()

    def _problem_of_regions(self) -> str:
        if not self.regions:
            return "it has masks, but no regions" if self.masks else ""
        if self.picture is None or not self.picture.known_size:
            return "it has regions, but no picture of known size"
        width, height = self.picture.width, self.picture.height
        for number, region in enumerate(self.regions):
            problem = _problem_of_region(region, width, height)
            if problem:
                return f"region {number} {problem}"
        if self.masks and len(self.masks) != len(self.regions):
            return f"it has {len(self.masks)} masks for {len(self.regions)} regions"
        for number, mask in enumerate(self.masks):
            if mask is not None and (mask.width, mask.height) != (width, height):
                size = f"{mask.width} x {mask.height}"
                return f"mask {number} is {size} pixels, but the picture {width} x {height}"
        return ""

    def box(self, index: int) -> Box:
        """The box of a region in pixels, within the picture."""
        if self.picture is None:
            raise InputError(f"sample {shorten(self.id)} has no picture")
        return region_bounds(self.regions[index], self.picture.width, self.picture.height)

    def mask(self, index: int) -> RunLengths | None:
        """The outline of the thing in a region, if it is known."""
        return self.masks[index] if self.masks else None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `from_dict` reads it back as an equal sample.

        >>> Sample("1", None, (Turn("user", "Hi"), Turn("assistant", "Hello"))).to_dict()["turns"][0]
        {'role': 'user', 'text': 'Hi'}
        """
        form: dict[str, Any] = {
            "id": self.id,
            "version": self.version,
            "task": self.task,
            "negative": self.negative,
            "picture": None if self.picture is None else picture_to_dict(self.picture),
            "turns": [{"role": turn.role, "text": turn.text} for turn in self.turns],
            "regions": [region_to_dict(region) for region in self.regions],
            "provenance": {name: getattr(self.provenance, name) for name in _PROVENANCE},
        }
        if self.masks:
            form["masks"] = [None if mask is None else mask.to_dict() for mask in self.masks]
        if self.extra:
            form["extra"] = dict(self.extra)
        return form

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> Sample:
        """Reads the JSON form; InputError, with the sample's id if it has one, if it is not of that form."""
        try:
            picture = form["picture"]
            return cls(
                form["id"],
                None if picture is None else picture_from_dict(picture),
                tuple(Turn(turn["role"], turn["text"]) for turn in form["turns"]),
                tuple(region_from_dict(region) for region in form["regions"]),
                tuple(None if mask is None else RunLengths.from_dict(mask) for mask in form.get("masks", ())),
                Provenance(**form["provenance"]),
                form["negative"],
                form["task"],
                form["version"],
                dict(form.get("extra", {})),
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as problem:
            if isinstance(problem, InputError) and str(problem).startswith("sample "):
                raise
            name = shorten(form["id"]) if isinstance(form, Mapping) and "id" in form else "without an id"
            reason = str(problem) if isinstance(problem, InputError) else _reason(problem)
            raise InputError(f"sample {name}: {reason}") from None


def picture_to_dict(picture: PictureReference) -> dict[str, Any]:
    """The JSON form of a picture reference; what is not known is left out."""
    form: dict[str, Any] = {
        name: getattr(picture, name) for name in ("file", "width", "height", "source", "id")
    }
    if picture.same_as:
        form["same_as"] = list(picture.same_as)
    return form | ({"fingerprint": picture.fingerprint} if picture.fingerprint else {})


def picture_from_dict(form: Mapping[str, Any]) -> PictureReference:
    """Reads the JSON form of a picture reference; InputError or KeyError if it is not one."""
    return PictureReference(
        file=form["file"],
        width=form["width"],
        height=form["height"],
        source=form["source"],
        id=form["id"],
        same_as=tuple(form.get("same_as", ())),
        fingerprint=form.get("fingerprint", ""),
    )


_PROVENANCE = ("source", "licence", "record", "template", "generator")


def _problem_of_turns(turns: tuple[Turn, ...], regions: int) -> str:
    if not turns or len(turns) % 2:
        return "a conversation needs an answer to every question"
    mentioned = set()
    for number, turn in enumerate(turns):
        if turn.role != _ROLES[number % 2]:
            return f"turn {number} should be the {_ROLES[number % 2]}'s, but is the {turn.role}'s"
        for kind, index in find_marks(turn.text):
            if (kind == "region") != (turn.role == "user"):
                return f"turn {number} has <{kind}:{index}>; questions have <region:k> and answers <box:k>"
            if index >= regions:
                return f"turn {number} mentions <{kind}:{index}>, but there are {regions} regions"
            mentioned.add(index)
    missing = sorted(set(range(regions)) - mentioned)
    return f"no turn mentions region {missing[0]}" if missing else ""


def _problem_of_region(region: Region, width: int, height: int) -> str:
    """What is wrong with a region; one that reaches beyond the picture is allowed if some of it is on it."""
    if isinstance(region, Box):
        if not (region.x1 < region.x2 and region.y1 < region.y2):
            return "is a box that is empty or has its corners in the wrong order"
        if region.x1 >= width or region.y1 >= height or region.x2 <= 0 or region.y2 <= 0:
            return f"lies outside the {width} x {height} picture"
        return ""
    if not isinstance(region, _REGIONS):
        return f"is not a region, but {type(region).__name__}"
    if isinstance(region, Mask):
        rows, columns = region.array.shape
        size = f"{columns} x {rows}"
        return (
            "" if (columns, rows) == (width, height) else f"is a mask of {size} pixels on {width} x {height}"
        )
    points = ((region.x, region.y),) if isinstance(region, Point) else region.points
    on_it = any(0 <= x <= width and 0 <= y <= height for x, y in points)
    spans = min(x for x, _ in points) < width and max(x for x, _ in points) > 0
    spans = spans and min(y for _, y in points) < height and max(y for _, y in points) > 0
    return "" if on_it or (spans and len(points) > 1) else f"lies outside the {width} x {height} picture"


def _texts(noun: object, *names: str) -> None:
    for name in names:
        if not isinstance(getattr(noun, name), str):
            raise InputError(
                f"{type(noun).__name__}.{name} must be text, not {shorten(repr(getattr(noun, name)))}"
            )


def _reason(problem: Exception) -> str:
    if isinstance(problem, KeyError):
        return f"it has no {shorten(repr(problem.args[0]))}"
    return f"it is not of this form ({type(problem).__name__}: {shorten(problem)})"
