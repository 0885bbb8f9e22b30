"""Descriptions drawn by chance, of many pictures at once: what training on rewards learns from.

The language model alone chooses, as it stands in the middle of its training; after `<box>` the locator writes one box
around all that the phrase names.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from openferret import prompts
from openferret.model.locator import PhraseEncoder
from openferret.train.stages.devices import half_precision
from openferret.train.stages.dialogues import to_bins
from openferret.train.stages.language import ANSWER_END, QUESTION_END, LanguageModel, Tokens
from openferret.train.stages.merged import KeysValues, MergedLayers

_PLANNED = 64
LOCATED = 4  # tokens that the locator writes after `<box>`


@dataclass(frozen=True)
class Drawn:
    """Descriptions, R of them.

    Attributes:
        ids: int64 [R, T], as written, filled up with the end's token.
        lengths: int64 [R], tokens of each, with its end.
        forced: bool [R, T], what the locator wrote.
        complete: bool [R], those that came to their end.
    """

    ids: Tensor
    lengths: Tensor
    forced: Tensor
    complete: Tensor


def opening(tokens: Tokens) -> list[int]:
    """What stands before a description: the picture's placeholders and the question."""
    return tokens.prefix() + tokens.encode(prompts.DESCRIBE + QUESTION_END)


class Drawing:
    """Writes descriptions.

    Args:
        model: of stage L.
        layers: the model's, merged.
        tokens: that write them.
        longest: tokens of a description, locations included.
    """

    def __init__(self, model: LanguageModel, layers: MergedLayers, tokens: Tokens, longest: int) -> None:
        self._model, self._layers, self._tokens, self._longest = model, layers, tokens, longest
        special = prompts.SPECIAL_TOKENS
        self._phrase = tokens.base_size + special.index(prompts.PHRASE_TOKEN)
        self._first = tokens.base_size + len(special)
        (self._end,) = tokens.encode(ANSWER_END)
        allowed = {self._end, self._phrase, tokens.box}
        never = [one for one in tokens.special if one < self._first and one not in allowed]
        self._never = torch.tensor(never, device=model.device)

    @torch.no_grad()
    def draw(self, maps: list[Tensor], picture_tokens: Tensor, count: int, temperature: float = 1.0) -> Drawn:
        """Several descriptions of each picture.

        Args:
            maps: of B pictures.
            picture_tokens: float [B, 80, E].
            count: of each picture.
            temperature: 0 writes the likeliest word each time.

        Returns:
            R = B * count descriptions, a picture's one after the other.
        """
        model, tokens, device = self._model, self._tokens, self._model.device
        weights, new_rows = self._layers.weights(), model.new_rows()
        asked = torch.tensor(opening(tokens), device=device).expand(len(picture_tokens), -1)
        embeddings = model.embed(asked, new_rows)
        embeddings = embeddings.masked_scatter((asked == tokens.image)[..., None], picture_tokens)
        start = asked.shape[1]
        before: KeysValues = self._layers.cache(len(asked), start + self._longest)
        causal = (
            torch.ones(start, start, dtype=torch.bool, device=device).tril().expand(len(asked), 1, -1, -1)
        )
        positions = torch.arange(start + self._longest, device=device)
        hidden = self._layers(embeddings, causal, positions[:start].expand_as(asked), weights, before)
        last, cache = hidden[:, -1].repeat_interleave(count, 0), before.repeated(count)
        rows = len(last)
        picture = torch.arange(len(asked), device=device).repeat_interleave(count)
        ids = torch.full((rows, self._longest), self._end, device=device)
        forced = torch.zeros(rows, self._longest, dtype=torch.bool, device=device)
        coming = torch.zeros(rows, LOCATED, dtype=torch.long, device=device)
        left = torch.zeros(rows, dtype=torch.long, device=device)  # of what the locator writes
        opened = torch.full((rows,), -1, device=device)  # where a phrase's words begin
        lengths = torch.full((rows,), self._longest, device=device)
        complete = torch.zeros(rows, dtype=torch.bool, device=device)
        for place in range(self._longest):
            with half_precision(device):
                scores = model.logits(last.to(model.words.dtype)).float()
            scores = scores.index_fill(1, self._never, -torch.inf)
            wordless = (opened < 0) | (opened >= place)
            scores[:, tokens.box] = scores[:, tokens.box].masked_fill(wordless, -torch.inf)
            likely = (scores / (temperature or 1.0)).softmax(-1)
            chosen = likely.multinomial(1)[:, 0] if temperature else likely.argmax(-1)
            waiting = left > 0
            chosen = torch.where(
                waiting, coming.gather(1, (LOCATED - left).clamp(max=LOCATED - 1)[:, None])[:, 0], chosen
            )
            chosen = chosen.masked_fill(complete, self._end)
            forced[:, place] = waiting
            left = (left - 1).clamp(min=0)
            ids[:, place] = chosen
            ended = (chosen == self._end) & ~complete
            lengths = torch.where(ended, place + 1, lengths)
            complete = complete | ended
            boxed = ((chosen == tokens.box) & ~complete).nonzero()[:, 0]
            if len(boxed):
                coming[boxed] = self._locations(maps, ids[boxed, :place], opened[boxed], picture[boxed])
                left[boxed] = LOCATED
                opened[boxed] = -1
            opened = torch.where(chosen == self._phrase, place + 1, opened)
            if place + 1 == self._longest or bool(complete.all()):
                break
            step = model.embed(chosen[:, None], new_rows)
            at = positions[start + place].expand(rows, 1)
            last = self._layers(step, None, at, weights, cache)[:, -1]
        return Drawn(ids, lengths, forced, complete)

    def _locations(self, maps: list[Tensor], ids: Tensor, opened: Tensor, picture: Tensor) -> Tensor:
        """Tokens of the boxes around what phrases name; ids int64 [n, t], each phrase from `opened` on: [n, 4]."""
        locator, found = self._model.trunk.locator, len(ids)
        if ids.is_cuda:  # cuDNN makes a plan for every number of phrases: a few numbers are enough
            filled = torch.arange(-(-found // _PLANNED) * _PLANNED, device=ids.device).clamp(max=found - 1)
            ids, opened, picture = ids[filled], opened[filled], picture[filled]
        places = opened[:, None] + torch.arange(PhraseEncoder.max_length, device=ids.device)
        mask = places < ids.shape[1]
        words = ids.gather(1, places.clamp(max=ids.shape[1] - 1)).clamp(max=len(self._model.words) - 1)
        embeddings = self._model.words[words].float()
        merged = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
        located = locator(maps[-1], locator.phrase(embeddings, mask), picture, merged)
        bins = [to_bins((x1, y1, x2, y2)) for x1, y1, x2, y2 in located.box[:found].tolist()]
        return torch.tensor(bins, device=ids.device) + self._first
