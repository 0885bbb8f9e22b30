"""How a conversation about a picture is written: Kit's ChatML and the paper's `ferret_v1`."""

from __future__ import annotations

from dataclasses import dataclass

from openferret.prompts import IMAGE_TOKEN

_FERRET_SYSTEM = (
    "A chat between a human and an AI that understands visuals. In images, [x, y] denotes points: top-left "
    "[0, 0], bottom-right [width-1, height-1]. Increasing x moves right; y moves down. Bounding box: "
    "[x1, y1, x2, y2]. Image size: 1000x1000. Follow instructions. "
)


@dataclass(frozen=True)
class Conversation:
    """The fixed words of a conversation; special tokens are written out.

    Attributes:
        opening: everything up to the first question that a picture's cached prefix holds.
        first: stands before the first question.
        answer: stands between a question and its answer.
        closing: ends an answer.
        following: stands before each later question.
    """

    opening: str
    first: str
    answer: str
    closing: str
    following: str

    def prompt(self, question: str) -> str:
        """A whole prompt with one question, up to where the answer begins.

        Example:
            >>> CONVERSATIONS["chatml"].prompt("Where is a dog?").splitlines()[1:3]
            ['<image>', 'Where is a dog?<|im_end|>']
        """
        return self.opening + self.first + question + self.answer


CONVERSATIONS = {
    "chatml": Conversation(
        opening=f"<|im_start|>user\n{IMAGE_TOKEN}\n",
        first="",
        answer="<|im_end|>\n<|im_start|>assistant\n",
        closing="<|im_end|>",
        following="\n<|im_start|>user\n",
    ),
    # A line break after the picture belongs to the question: SentencePiece marks the start of every text.
    "ferret_v1": Conversation(
        opening=f"<s>{_FERRET_SYSTEM} USER: {IMAGE_TOKEN}",
        first="\n",
        answer=" ASSISTANT:",
        closing="</s>",
        following="USER: ",
    ),
}
