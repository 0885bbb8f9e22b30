"""What may be sent to the server and what it sends back; nothing else is accepted, and no number is infinite.

Coordinates are pixels of the upright picture, x to the right and y down.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from openferret.serve.limits import LIMITS


class Body(BaseModel):
    """Base of everything that a client sends: no unknown fields, no text for numbers, nothing infinite."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


Pixel: TypeAlias = Annotated[FiniteFloat, Field(ge=-1e9, le=1e9)]
# Lists stop at their first fault: a description of each of a hundred thousand takes longer than an answer.
Vertex: TypeAlias = Annotated[list[Pixel], Field(min_length=2, max_length=2, fail_fast=True)]
Probability: TypeAlias = Annotated[FiniteFloat, Field(ge=0, le=1)]
Words: TypeAlias = Annotated[str, Field(max_length=LIMITS.text)]
Tokens: TypeAlias = Annotated[int, Field(ge=1, le=LIMITS.new_tokens)]


class PointSpec(Body):
    """A place."""

    type: Literal["point"]
    x: Pixel
    y: Pixel


class BoxSpec(Body):
    """A rectangle."""

    type: Literal["box"]
    x1: Pixel
    y1: Pixel
    x2: Pixel
    y2: Pixel


class ScribbleSpec(Body):
    """A stroke through points."""

    type: Literal["scribble"]
    points: Annotated[list[Vertex], Field(min_length=1, max_length=LIMITS.vertices, fail_fast=True)]


class PolygonSpec(Body):
    """An outline; the last point joins the first."""

    type: Literal["polygon"]
    points: Annotated[list[Vertex], Field(min_length=3, max_length=LIMITS.vertices, fail_fast=True)]


class Rle(Body):
    """COCO run lengths: text, or a list of runs down the columns that begins with background."""

    size: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)]
    counts: (
        Annotated[str, Field(max_length=LIMITS.rle_text)]
        | Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=LIMITS.rle_runs, fail_fast=True)]
    )


class MaskSpec(Body):
    """Any shape: COCO run lengths, or a PNG (base64) of the picture's size that is not 0 inside."""

    type: Literal["mask"]
    rle: Rle | None = None
    png: str | None = None

    @model_validator(mode="after")
    def _one_form(self) -> MaskSpec:
        if (self.rle is None) == (self.png is None):
            raise ValueError("a mask has either rle or png")
        return self


RegionSpec: TypeAlias = Annotated[
    PointSpec | BoxSpec | ScribbleSpec | PolygonSpec | MaskSpec, Field(discriminator="type")
]
RegionSpecs: TypeAlias = Annotated[
    list[RegionSpec], Field(min_length=1, max_length=LIMITS.regions, fail_fast=True)
]


class ImageRef(Body):
    """A picture: one sent before (`id`), a data URL (`data`), or an address where the server allows it."""

    id: Annotated[str, Field(max_length=64)] | None = None
    data: str | None = None
    url: Annotated[str, Field(max_length=2048)] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> ImageRef:
        if sum(one is not None for one in (self.id, self.data, self.url)) != 1:
            raise ValueError("an image has exactly one of id, data and url")
        return self


def _examples(*bodies: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(bodies)})


_IMAGE = {"id": "img_1b9d6bcdbbfd4b2d9b5dab8dfbbd4bed"}
_REGION = {"type": "box", "x1": 10, "y1": 20, "x2": 200, "y2": 220}


class ReferBody(Body):
    """What is this? One region, or several that are answered together; none: the picture's alpha is it."""

    model_config = _examples({"image": _IMAGE, "region": _REGION})

    image: ImageRef
    region: RegionSpec | None = None
    regions: RegionSpecs | None = None
    question: Words | None = None
    max_new_tokens: Tokens = 48
    stream: bool = False

    @model_validator(mode="after")
    def _one_form(self) -> ReferBody:
        if self.region is not None and self.regions is not None:
            raise ValueError("give region or regions, not both")
        if self.stream and self.regions is not None:
            raise ValueError("only one region can be streamed: give region instead of regions")
        return self


class GroundBody(Body):
    """Where is this?"""

    model_config = _examples({"image": _IMAGE, "phrases": ["a dog", "a red ball"]})

    image: ImageRef
    phrases: Annotated[
        list[Annotated[str, Field(max_length=LIMITS.phrase)]],
        Field(min_length=1, max_length=LIMITS.phrases, fail_fast=True),
    ]
    merge: bool = False
    threshold: Probability | None = None


class DescribeBody(Body):
    """A description with boxes; of several drafts the one that tells most of what is seen."""

    model_config = _examples({"image": _IMAGE}, {"image": _IMAGE, "drafts": 9})

    image: ImageRef
    drafts: Annotated[int, Field(ge=1, le=LIMITS.drafts)] = 1
    max_new_tokens: Tokens = 128
    stream: bool = False

    @model_validator(mode="after")
    def _chosen_first(self) -> DescribeBody:
        if self.stream and self.drafts > 1:
            raise ValueError("only one draft can be streamed: the best is known when all are written")
        return self


class DetectBody(Body):
    """Everything the model can name."""

    model_config = _examples({"image": _IMAGE, "threshold": 0.3})

    image: ImageRef
    threshold: Probability | None = None


class AskBody(Body):
    """Any question; `[0]`, `[1]`, ... in it stand for the regions."""

    model_config = _examples({"image": _IMAGE, "question": "What is [0] doing?", "regions": [_REGION]})

    image: ImageRef
    question: Words
    regions: Annotated[list[RegionSpec], Field(max_length=LIMITS.regions, fail_fast=True)] = []
    max_new_tokens: Tokens = 96
    stream: bool = False


class TextPart(Body):
    """Words."""

    type: Literal["text"]
    text: Words


class ImageUrl(Body):
    """A data URL, `image:ID` of a picture sent before, or an address where the server allows it."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(Body):
    """The picture of the conversation."""

    type: Literal["image_url"]
    image_url: ImageUrl


class RegionPart(Body):
    """A region; it stands in the text where it stands in the list."""

    type: Literal["region"]
    region: RegionSpec


ContentPart: TypeAlias = Annotated[TextPart | ImagePart | RegionPart, Field(discriminator="type")]


class SystemMessage(Body):
    """Accepted and, with a warning, not read: the model has no place for it."""

    role: Literal["system", "developer"]
    content: Words | Annotated[list[TextPart], Field(max_length=LIMITS.parts, fail_fast=True)]
    name: Annotated[str, Field(max_length=64)] | None = None


class UserMessage(Body):
    """A question."""

    role: Literal["user"]
    content: (
        Words | Annotated[list[ContentPart], Field(min_length=1, max_length=LIMITS.parts, fail_fast=True)]
    )
    name: Annotated[str, Field(max_length=64)] | None = None


class AssistantMessage(Body):
    """An earlier answer, replayed as text. What else OpenAI's clients send back with it must be empty."""

    role: Literal["assistant"]
    content: Words | Annotated[list[TextPart], Field(max_length=LIMITS.parts, fail_fast=True)]
    name: Annotated[str, Field(max_length=64)] | None = None
    refusal: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None


Message: TypeAlias = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]


class StreamOptions(Body):
    """As OpenAI's."""

    include_usage: bool = False
    include_obfuscation: bool = False


class TextFormat(Body):
    """The only form of reply there is."""

    type: Literal["text"]


class ChatBody(Body):
    """OpenAI's chat completion. Parameters that this server cannot honour are refused, not ignored.

    What is null was not given, whatever it is; what would change no answer is taken.
    """

    model_config = _examples(
        {
            "model": "kit",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": f"image:{_IMAGE['id']}"}},
                        {"type": "text", "text": "What is"},
                        {"type": "region", "region": _REGION},
                        {"type": "text", "text": "?"},
                    ],
                }
            ],
        }
    )

    model: Annotated[str, Field(max_length=128)]
    messages: Annotated[list[Message], Field(min_length=1, max_length=LIMITS.messages, fail_fast=True)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    temperature: Annotated[FiniteFloat, Field(ge=0, le=2)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    top_p: Annotated[FiniteFloat, Field(ge=1, le=1)] | None = None
    frequency_penalty: Annotated[FiniteFloat, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[FiniteFloat, Field(ge=0, le=0)] | None = None
    logprobs: Literal[False] | None = None
    response_format: TextFormat | None = None
    user: Annotated[str, Field(max_length=256)] | None = None
    safety_identifier: Annotated[str, Field(max_length=256)] | None = None
    prompt_cache_key: Annotated[str, Field(max_length=256)] | None = None
    metadata: Annotated[dict[str, Any], Field(max_length=16)] | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    service_tier: Literal["auto", "default"] | None = None
    store: Literal[False] | None = None
    stop: Annotated[list[Any], Field(max_length=0)] | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, given: Any) -> Any:
        return (
            {name: one for name, one in given.items() if one is not None}
            if isinstance(given, dict)
            else given
        )


class ImageInfo(BaseModel):
    """A picture that the server holds."""

    id: str
    width: int
    height: int
    expires_in: int = Field(description="Seconds; each use begins them anew.")


class BoxInfo(BaseModel):
    """A box of an answer."""

    pixels: list[float] = Field(description="x1, y1, x2, y2 of the upright picture.")
    normalized: list[float] = Field(description="The same, 0..1 of width and height.")
    score: float | None


class MentionInfo(BaseModel):
    """Something named in an answer, `text[span[0]:span[1]]`, and where it is; no box: not in the picture."""

    phrase: str
    span: list[int]
    boxes: list[BoxInfo]


class SizeInfo(BaseModel):
    """Of the upright picture in pixels."""

    width: int
    height: int


class AnswerInfo(BaseModel):
    """Words, and where the things are that they name."""

    text: str
    image: SizeInfo
    mentions: list[MentionInfo]
    model: str
    timings: dict[str, float]
    warnings: list[str] | None = None


class Timings(BaseModel):
    """Seconds. `encode` is 0 where the picture had been read before."""

    queue: float
    encode: float
    prefill: float
    decode: float


class VerbReply(BaseModel):
    """`answers` stands in place of `answer` where several regions were sent."""

    id: str
    model: str
    answer: AnswerInfo | None = None
    answers: list[AnswerInfo] | None = None
    timings: Timings


class ErrorInfo(BaseModel):
    """What was wrong: `code` never changes its meaning, `message` is for people."""

    code: str
    message: str
    type: str


class ErrorReply(BaseModel):
    """Every error has this form."""

    error: ErrorInfo
