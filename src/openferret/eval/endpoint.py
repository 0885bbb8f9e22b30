"""Any model behind an OpenAI-compatible server as a candidate.

It sees the picture and words only: a region becomes its coordinates, and what form boxes must have is said in
the question. These words are part of the result's settings, as they would be of a paper's.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from openferret.coordinates import box_to_bins, format_bins_text, to_bin
from openferret.errors import InputError
from openferret.eval.dialects import DIALECTS
from openferret.eval.models import ModelCard
from openferret.eval.questions import Question, Reply, digest
from openferret.eval.transport import ChatServer, TransportError
from openferret.regions import Point, region_bounds

if TYPE_CHECKING:
    from PIL import Image

FORMS = {
    "ferret": "Write each box as [x1, y1, x2, y2] right after its phrase, whole numbers from 0 to 999.",
    "qwen": 'Answer in JSON: [{"bbox_2d": [x1, y1, x2, y2], "label": "..."}], whole numbers from 0 to 1000.',
    "kosmos": "<grounding>",
}
SPACE = "Coordinates are thousandths of the picture's width and height, from its upper left corner."
GROUND = "Where is {phrases}? {form} {absent}"
MERGED = "Where is {phrases}? Give one box for each, round all that it names. {form} {absent}"
ABSENT = 'If it is not in the picture, say "not in the picture".'
DESCRIBE = "{text} {form}"


class EndpointModel:
    """A model behind a server.

    Args:
        server: with its address, model and key.
        dialect: how it writes boxes: one of `DIALECTS`.
        max_tokens: longest reply.

    Raises:
        InputError: no such dialect.
    """

    def __init__(self, server: ChatServer, dialect: str = "ferret", max_tokens: int = 512) -> None:
        if dialect not in DIALECTS:
            raise InputError(f"there is no dialect {dialect!r}: give one of {', '.join(DIALECTS)}")
        self._server = server
        self._dialect = dialect
        self._max_tokens = max_tokens

    def card(self) -> ModelCard:
        """The server's name for the model; weights are out of reach."""
        words = digest([FORMS, SPACE, GROUND, MERGED, ABSENT, DESCRIBE])[:12]
        settings = (
            ("dialect", self._dialect),
            ("max_tokens", str(self._max_tokens)),
            ("temperature", "0"),
            ("words", words),
        )
        return ModelCard(self._server.model, "endpoint", "", settings)

    def look(self, image: Image.Image) -> tuple[str, int, int]:
        """The picture as a data URL, and its size."""
        file = io.BytesIO()
        image.convert("RGB").save(file, "PNG")
        encoded = base64.b64encode(file.getvalue()).decode()
        return f"data:image/png;base64,{encoded}", image.width, image.height

    def answer(self, view: tuple[str, int, int], questions: Sequence[Question]) -> list[Reply]:
        """Each question is a request of its own."""
        return [self._ask(view, question) for question in questions]

    def _ask(self, view: tuple[str, int, int], question: Question) -> Reply:
        url, width, height = view
        parts = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": self._words(question, width, height)},
        ]
        try:
            raw = self._server.chat(
                [{"role": "user", "content": parts}], temperature=0, max_tokens=self._max_tokens
            )
        except TransportError as error:
            return Reply(None, error=str(error))
        return Reply(DIALECTS[self._dialect](raw, width, height), raw)

    def _words(self, question: Question, width: int, height: int) -> str:
        form = f"{SPACE} {FORMS[self._dialect]}" if self._dialect != "kosmos" else FORMS["kosmos"]
        if question.verb == "describe":
            return DESCRIBE.format(text=question.text or "Describe the picture.", form=form)
        if question.verb == "ground":
            template = MERGED if question.merge else GROUND
            absent = "" if question.forced else ABSENT
            return template.format(phrases=", ".join(question.phrases), form=form, absent=absent).strip()
        text = question.text
        for index, spot in enumerate(question.spots):
            region = spot.region(width, height)
            bins: Sequence[int] = (
                (to_bin(region.x, width), to_bin(region.y, height))
                if isinstance(region, Point)
                else box_to_bins(region_bounds(region, width, height), width, height)
            )
            text = text.replace(f"[{index}]", f"region {format_bins_text(bins)}")
        return f"{text} {SPACE}" if question.spots else text
