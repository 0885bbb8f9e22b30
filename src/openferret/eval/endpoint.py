"""Any model behind an OpenAI-compatible server as a candidate.

It sees the picture and words only: a region becomes its coordinates, and what form boxes must have is said in
the question (`wording.py`). What a server does to a picture's size is not known: with the dialect `qwen2.5`
pixels are taken for those of the picture that was sent.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from openferret.errors import InputError
from openferret.eval.dialects import DIALECTS, place_in
from openferret.eval.models import ModelCard
from openferret.eval.questions import Question, Reply
from openferret.eval.transport import ChatServer, TransportError
from openferret.eval.wording import JSON, WORDS, in_words, where_all

if TYPE_CHECKING:
    from PIL import Image


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
        settings = (
            ("dialect", self._dialect),
            ("max_tokens", str(self._max_tokens)),
            ("temperature", "0"),
            ("words", WORDS),
        )
        return ModelCard(self._server.model, "endpoint", "", settings)

    def look(self, image: Image.Image) -> tuple[str, int, int]:
        """The picture as a data URL, and its size."""
        file = io.BytesIO()
        image.convert("RGB").save(file, "PNG")
        encoded = base64.b64encode(file.getvalue()).decode()
        return f"data:image/png;base64,{encoded}", image.width, image.height

    def answer(self, view: tuple[str, int, int], questions: Sequence[Question]) -> list[Reply]:
        """Each question is a request of its own; a caption in a dialect of JSON is two."""
        return [self._ask(view, question) for question in questions]

    def _ask(self, view: tuple[str, int, int], question: Question) -> Reply:
        url, width, height = view
        read = DIALECTS[self._dialect]
        try:
            raw = self._say(url, in_words(question, self._dialect, width, height))
            if question.verb == "describe" and self._dialect in JSON:
                caption = read(raw, width, height).text
                said = self._say(url, where_all(caption, self._dialect, width, height))
                answer, raw = place_in(caption, read(said, width, height)), f"{raw}\n{said}"
            else:
                answer = read(raw, width, height)
        except (TransportError, InputError) as error:  # InputError: a region that is none
            return Reply(None, error=str(error))
        return Reply(answer, raw, dialect=self._dialect)

    def _say(self, url: str, words: str) -> str:
        parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": words}]
        message = {"role": "user", "content": parts}
        return self._server.chat([message], temperature=0, max_tokens=self._max_tokens)
