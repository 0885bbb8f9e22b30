"""A conversation in OpenAI's form -> one question that holds all its turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from openferret import prompts
from openferret.errors import InputError
from openferret.generation.prefix import context_length
from openferret.generation.questions import Question, write_question
from openferret.processing.processor import escape_text
from openferret.regions import Region
from openferret.scene import Scene
from openferret.serve.errors import ServeError
from openferret.serve.limits import LIMITS
from openferret.serve.schemas import (
    AssistantMessage,
    ImagePart,
    ImageRef,
    Message,
    RegionPart,
    RegionSpec,
    SystemMessage,
    TextPart,
    UserMessage,
)
from openferret.serve.work import check_mentions

_LONGEST_URL = 2048
_LONGEST_TOKEN = 64  # characters
_NO_SYSTEM = "the system message was not read: this model has no place for one"
_FORGOTTEN = "the conversation grew too long; its earlier turns were forgotten"


@dataclass(frozen=True)
class Turn:
    """A question and its answer.

    Attributes:
        question: `[k]` stands for the turn's region k.
        regions: how many.
        answer: None for the turn that is to be answered.
    """

    question: str
    regions: int
    answer: str | None = None

    def longer_than(self, tokens: int) -> bool:
        """Whether it cannot fit, by its letters alone."""
        return len(self.question) + len(self.answer or "") > tokens * _LONGEST_TOKEN


@dataclass(frozen=True)
class Dialogue:
    """A conversation about one picture.

    Attributes:
        image: the picture.
        turns: at least one; only the last has no answer.
        specs: regions of all turns, in their order.
        warnings: sentences about what was not read.
    """

    image: ImageRef
    turns: tuple[Turn, ...]
    specs: tuple[RegionSpec, ...]
    warnings: tuple[str, ...]


def read_dialogue(messages: Sequence[Message]) -> Dialogue:
    """Turns of the messages of a request.

    Raises:
        ServeError: 422 for messages in an order that makes no conversation, or not exactly one picture.
    """
    images: list[ImageRef] = []
    turns: list[Turn] = []
    specs: list[RegionSpec] = []
    warnings: list[str] = []
    for message in messages:
        match message:
            case SystemMessage():
                warnings.append(_NO_SYSTEM)
            case UserMessage():
                if turns and turns[-1].answer is None:
                    raise ServeError(422, "invalid_messages", "a user's message must follow an answer")
                text, own = _read_parts(message, images)
                _check_length(text)
                turns.append(Turn(text, len(own)))
                specs += own
            case AssistantMessage():
                if not turns or turns[-1].answer is not None:
                    raise ServeError(422, "invalid_messages", "an answer must follow a user's message")
                said = _joined(message.content)
                _check_length(said)
                turns[-1] = replace(turns[-1], answer=said)
    if not turns or turns[-1].answer is not None:
        raise ServeError(422, "invalid_messages", "the last message must be the user's")
    if len(set(images)) != 1:
        raise ServeError(422, "one_image", "a conversation is about exactly one picture")
    return Dialogue(images[0], tuple(turns), tuple(specs), tuple(dict.fromkeys(warnings)))


def write_dialogue(
    scene: Scene, dialogue: Dialogue, regions: Sequence[Region], max_new_tokens: int, most: int
) -> Question:
    """A conversation as one question: earlier answers are replayed as text.

    Args:
        scene: of the picture.
        dialogue: what was said.
        regions: of all turns, in their order, in pixels of the picture.
        max_new_tokens: that must fit behind it.
        most: tokens; the earliest turns are forgotten beyond.

    Raises:
        InputError: a question that cannot be used.
    """
    held = context_length(scene.loaded.model) - scene.prefix.length - 1
    room = max(1, min(most, held - max_new_tokens))
    kept: list[tuple[Turn, Sequence[Region], Question]] = []
    rest: Sequence[Region] = regions
    left = room
    # From the last turn back: what is forgotten is not even read.
    for number in reversed(range(len(dialogue.turns))):
        turn = dialogue.turns[number]
        own, rest = rest[len(rest) - turn.regions :], rest[: len(rest) - turn.regions]
        shown = sum(len(pointed) for _, pointed, _ in kept)
        if kept and (turn.longer_than(left) or shown + len(own) > LIMITS.regions):
            break
        try:
            question = _write_turn(scene, turn, own, room, first=not number)
        except InputError as error:
            raise InputError(f"turn {number}: {error}") from None
        if kept and len(question.ids) > left:
            break
        kept.insert(0, (turn, own, question))
        left -= len(question.ids)
    written = [question for _, _, question in kept]
    warnings = list(dialogue.warnings)
    if len(kept) < len(dialogue.turns):  # the first that is left is written anew: it follows the picture
        turn, own, _ = kept[0]
        written[0] = _write_turn(scene, turn, own, room, first=True)
        warnings.append(_FORGOTTEN)
    return Question(
        tuple(token for one in written for token in one.ids),
        tuple(region for one in written for region in one.regions),
        tuple(dict.fromkeys([*warnings, *(note for one in written for note in one.warnings)])),
    )


def _write_turn(scene: Scene, turn: Turn, regions: Sequence[Region], room: int, *, first: bool) -> Question:
    check_mentions(turn.question)
    processor = scene.loaded.processor
    before = None if first else processor.conversation.following
    asked = write_question(processor, turn.question, regions, scene.image.size, before=before, room=room)
    if turn.answer is None:
        return asked
    said = processor.tokenize(escape_text(turn.answer) + processor.conversation.closing)
    return replace(asked, ids=asked.ids + tuple(said))


def _read_parts(message: UserMessage, images: list[ImageRef]) -> tuple[str, list[RegionSpec]]:
    """The text of a message, with `[k]` where region k stands; its pictures join the others."""
    if isinstance(message.content, str):
        return message.content, []
    pieces: list[str] = []
    regions: list[RegionSpec] = []
    for part in message.content:
        match part:
            case TextPart(text=text):
                pieces.append(text)
            case ImagePart(image_url=image):
                images.append(_image_of(image.url))
            case RegionPart(region=region):
                pieces.append(f"[{len(regions)}]")
                regions.append(region)
    text = _join_words(pieces)
    if not "".join(part.text for part in message.content if isinstance(part, TextPart)).strip():
        # Regions alone ask what they are, and a picture alone what it shows.
        text = f"What is {text}?" if regions else prompts.DESCRIBE
    return text, regions


def _check_length(text: str) -> None:
    if len(text) > LIMITS.text:
        most = f"{LIMITS.text:,}"
        raise ServeError(422, "invalid_messages", f"the text of a message has more than {most} characters")


def _join_words(pieces: Sequence[str]) -> str:
    """Pieces with a space between, unless there is one or a mark follows."""
    text = ""
    for piece in pieces:
        apart = not text or not piece or text[-1].isspace() or piece[0].isspace() or piece[0] in ".,;:!?)'"
        text += piece if apart else f" {piece}"
    return text


def _joined(content: str | Sequence[TextPart]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _image_of(url: str) -> ImageRef:
    if url[:5].lower() == "data:":
        return ImageRef(data=url)
    if url.startswith("image:") and len(url) <= 64:
        return ImageRef(id=url.removeprefix("image:"))
    if url.startswith("https://") and len(url) <= _LONGEST_URL:
        return ImageRef(url=url)
    raise ServeError(
        422, "invalid_image_url", "a picture is data:image/...;base64,..., image:ID or https://..."
    )
