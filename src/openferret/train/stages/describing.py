"""Descriptions that Kit draws by chance, and how likely it is to write each: what training on rewards needs.

They are drawn as everybody's are (`openferret.generation.decode`), with the locator's boxes and the namer's say among
nouns; what these decide is given to the language model, not learned by it. Afterwards each word is weighed again, with
gradients, as it was when it was chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from openferret import prompts
from openferret.generation.decode import Decoding, Generated, decode, forbidden_tokens
from openferret.generation.engines import AnyFerret
from openferret.generation.evidence import NounEvidence
from openferret.generation.prefix import PicturePrefix
from openferret.generation.questions import Question, write_question
from openferret.processing.preparing import Preparing
from openferret.train.stages.language import visible


@dataclass(frozen=True)
class Choice:
    """A token that the language model chose, and what it could choose from.

    Attributes:
        place: its place in the answer; after the last one it is the end.
        token: that was chosen.
        after_words: of an open phrase, so that `<box>` could be written.
        seen: float [N], what of the picture could still be named; None outside of phrases.
    """

    place: int
    token: int
    after_words: bool
    seen: Tensor | None


class Describing:
    """What the writing of descriptions knows of a model.

    Args:
        model: with a locator and a namer.
        processor: the model's own.
    """

    def __init__(self, model: AnyFerret, processor: Preparing) -> None:
        config = model.config
        self.model, self.processor = model, processor
        self.phrase, self.box = config.phrase_token_id, config.box_token_id
        self.locations = range(
            config.first_location_token_id, config.first_location_token_id + prompts.LOCATION_BINS
        )
        self.end = processor.tokenize(processor.conversation.closing)[0]
        self.nouns = NounEvidence(config.noun_token_ids, config.noun_weight, torch.device("cpu"))
        self.forbidden = forbidden_tokens(model, processor).cpu()

    def question(self, prefix: PicturePrefix) -> Question:
        """Asks for a description of a picture."""
        return write_question(self.processor, prompts.DESCRIBE, [], (prefix.width, prefix.height))

    def draw(self, prefix: PicturePrefix, count: int, how: Decoding) -> list[Generated]:
        """Writes several descriptions of one picture."""
        return decode(self.model, self.processor, prefix, [self.question(prefix)] * count, how)

    def choices(self, written: Generated, seen: Tensor) -> list[Choice]:
        """What was chosen in a description, in order; what the locator wrote was not.

        Args:
            written: the description.
            seen: float [N], what the namer sees on the picture.
        """
        made: list[Choice] = []
        words: int | None = None  # of an open phrase
        forced = False
        for place, token in enumerate(written.ids):
            if forced and (token == self.box or token in self.locations):
                continue
            forced = False
            made.append(Choice(place, token, bool(words), None if words is None else seen))
            if token in self.nouns:
                seen = self.nouns.without(seen, token)
            if token == self.phrase:
                words = 0
            elif token == self.box:
                words, forced = None, True
            elif words is not None:
                words += 1
        if written.complete:
            made.append(Choice(len(written.ids), self.end, bool(words), None if words is None else seen))
        return made

    def likelihoods(self, logits: Tensor, choices: Sequence[Choice], temperature: float) -> Tensor:
        """Log-probability with which each choice was drawn, float [n].

        Args:
            logits: float [n, V], of the language model where it chose.
            choices: n of them.
            temperature: that they were drawn with.
        """
        device = logits.device
        open_logits = logits.index_fill(1, self.forbidden.to(device), -torch.inf)
        early = torch.tensor([not one.after_words for one in choices], device=device)
        no_box = torch.zeros_like(open_logits, dtype=torch.bool)
        no_box[early, self.box] = True
        open_logits = open_logits.masked_fill(no_box, -torch.inf)
        rows = [row for row, one in enumerate(choices) if one.seen is not None]
        if rows:
            seen = torch.stack([one.seen for one in choices if one.seen is not None])
            open_logits = open_logits + self._say(open_logits.detach(), rows, seen)
        chosen = torch.tensor([one.token for one in choices], device=device)
        return (open_logits / temperature).log_softmax(-1).gather(1, chosen[:, None])[:, 0]

    def _say(self, logits: Tensor, rows: list[int], seen: Tensor) -> Tensor:
        """What the namer adds to the logits: a constant, as it is laid over whatever the language model thinks."""
        added = torch.zeros_like(logits)
        for row, one in zip(rows, seen, strict=True):
            before = logits[row].cpu()
            after = before.clone()
            self.nouns.lay_seen_over(after, one, beginning=False)
            added[row] = torch.where(before.isneginf(), 0.0, after - before).to(logits.device)
        return added


def score_choices(
    model: Any,
    opening: Tensor,
    written: Sequence[Generated],
    choices: Sequence[Sequence[Choice]],
) -> Tensor:
    """The language model's logits where it chose, for several descriptions of one picture in one sequence.

    Args:
        model: `FerretForConditionalGeneration`, whose language model is trained.
        opening: float [L, H], the picture's prefix and the question as embeddings.
        written: the descriptions.
        choices: those of each.

    Returns:
        float [n, V], of all choices in order.
    """
    device, asked = opening.device, len(opening)
    ids: list[int] = []
    segments, positions = [0] * asked, list(range(asked))
    read: list[int] = []  # where in the sequence each choice's logits are
    for number, (one, made) in enumerate(zip(written, choices, strict=True), start=1):
        start = asked + len(ids)
        ids += one.ids
        segments += [number] * len(one.ids)
        positions += range(asked, asked + len(one.ids))
        read += [start + choice.place - 1 if choice.place else asked - 1 for choice in made]
    words = model.get_input_embeddings()(torch.tensor(ids, device=device))
    hidden = model.model.language_model(
        inputs_embeds=torch.cat([opening, words])[None],
        attention_mask=visible(torch.tensor([segments], device=device)),
        position_ids=torch.tensor([positions], device=device),
        use_cache=False,
    ).last_hidden_state[0]
    logits: Tensor = model.lm_head(hidden[torch.tensor(read, device=device)]).float()
    return logits
