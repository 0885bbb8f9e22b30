"""Who is asked. Three methods make any model a candidate: `card`, `look` and `answer`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from openferret.answer import Answer, Mention
from openferret.errors import InputError
from openferret.eval.questions import Question, Reply

if TYPE_CHECKING:
    from PIL import Image

    from openferret.predictor import Ferret, Scene

_WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf", ".json", ".model")


@dataclass(frozen=True)
class ModelCard:
    """Which model gave the replies.

    Args:
        name: as a report shows it.
        kind: `ferret`, `endpoint`, or the name of another adapter.
        digest: SHA-256 of its weights and configuration, sixteen letters; empty where they are out of reach.
        settings: whatever else its replies depend on.
    """

    name: str
    kind: str
    digest: str = ""
    settings: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {**asdict(self), "settings": dict(self.settings)}


class Model(Protocol):
    """A model under evaluation.

    An adapter for a peer answers three verbs, in boxes of the upright picture's pixels:
    `ask` (free text; `[0]` in it stands for `spots[0]`), `ground` (a mention for each of `phrases`, without
    boxes if it is not there; one box each if `merge`; one in any case if `forced`), and `describe`.
    One that ranks boxes fills `Reply.ranked` where `Question.ranks` asks for it; others leave it empty.
    """

    def card(self) -> ModelCard:
        """Which model this is."""

    def look(self, image: Image.Image) -> Any:
        """Reads a picture (upright RGB) once; the result is handed back to `answer`."""

    def answer(self, view: Any, questions: Sequence[Question]) -> list[Reply]:
        """One reply for each question about that picture, in order; a failure is a Reply with `error`."""


class FerretModel:
    """This package's own models, through the predictor that users hold.

    Args:
        ferret: a loaded model.
        folder: of its weights, for the digest.
        seed: it was loaded with.
        drafts: of a description.
    """

    def __init__(self, ferret: Ferret, folder: Path, seed: int = 0, drafts: int = 1) -> None:
        self._ferret = ferret
        self._folder = folder
        self._seed = seed
        self._drafts = drafts

    @classmethod
    def load(
        cls, model: str, device: str = "cpu", seed: int = 0, engine: str | None = None, drafts: int = 1
    ) -> FerretModel:
        """Opens "kit" or a model folder; WeightsError or InputError if it cannot be."""
        from openferret.kit.assemble import ensure_kit
        from openferret.predictor import Ferret

        return cls(
            Ferret.load(model, device=device, seed=seed, engine=engine),
            ensure_kit() if model == "kit" else Path(model),
            seed,
            drafts,
        )

    def card(self) -> ModelCard:
        """Its folder's name and digest, and what ran its language model."""
        engine = self._ferret.loaded.engine
        settings = (
            ("seed", str(self._seed)),
            ("engine", engine.name),
            ("precision", engine.precision),
            *([("drafts", str(self._drafts))] if self._drafts > 1 else []),
        )
        return ModelCard(self._ferret.name, "ferret", folder_digest(self._folder), settings)

    def look(self, image: Image.Image) -> Scene:
        """Encodes the picture."""
        return self._ferret.encode(image)

    def answer(self, view: Scene, questions: Sequence[Question]) -> list[Reply]:
        """Questions of one kind that follow each other are decoded together."""
        replies: list[Reply] = []
        for _, group in groupby(questions, key=_kind):
            asked = list(group)
            try:
                answers = _answer_alike(view, asked, self._drafts)
                replies += _with_ranks(view, asked, [Reply(answer) for answer in answers])
            except InputError as error:
                replies += [Reply(None, error=str(error))] * len(asked)
        return replies


def _kind(question: Question) -> tuple[object, ...]:
    """Questions with the same kind may share a batch; None of one that may not is its own id."""
    if question.verb == "ground" and len(question.phrases) == 1:
        return "ground", question.merge, question.forced
    if question.verb == "ask" and len(question.spots) == 1:
        return "ask", question.text
    return ("alone", question.id)


def _with_ranks(scene: Scene, asked: Sequence[Question], replies: Sequence[Reply]) -> Iterator[Reply]:
    for question, reply in zip(asked, replies, strict=True):
        if question.ranks and scene.loaded.model.config.use_locator:
            boxes = scene.rank(question.phrases, question.ranks)
            yield replace(reply, ranked=tuple(tuple(one.normalized for one in several) for several in boxes))
        else:
            yield reply


def _answer_alike(scene: Scene, questions: Sequence[Question], drafts: int) -> Iterator[Answer]:
    first = questions[0]
    spots = [[spot.region(scene.width, scene.height) for spot in one.spots] for one in questions]
    if first.verb == "describe":
        yield scene.describe(drafts=drafts)
    elif first.verb == "ask" and len(first.spots) == 1:
        yield from scene.refer_many([regions[0] for regions in spots], first.text)
    elif first.verb == "ask":
        yield scene.ask(first.text, spots[0])
    else:
        phrases = [phrase for one in questions for phrase in one.phrases]
        found = scene.ground(phrases, merge=first.merge, threshold=0.0 if first.forced else None)
        if len(questions) == 1:
            yield found
        else:
            for phrase, mention in zip(phrases, found.mentions, strict=True):
                words = Mention(phrase, (0, len(phrase)), mention.boxes)
                yield Answer(phrase, (words,), found.width, found.height, found.model)


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a model folder's weights and configuration, sixteen letters."""
    total = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.suffix in _WEIGHTS and file.is_file():
            total.update(file.relative_to(folder).as_posix().encode())
            with file.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:16]
