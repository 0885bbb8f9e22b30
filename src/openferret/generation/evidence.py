"""What the vision side says of an answer's words, laid over what the language model would say.

Two heads know something better than a language model of Kit's size: the locator, whether a thing is in the picture;
the namer, what a region shows, and over all proposals what the picture shows. Neither writes words. Where an answer
turns on such knowledge, the probability that the language model gives to the words in question ("Yes" and "No"; all
nouns) is shared among them anew, and all other words keep theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from openferret import prompts
from openferret.generation.engines import AnyFerret
from openferret.generation.intents import Sought
from openferret.generation.locating import find_phrases, phrase_ids
from openferret.generation.presence import PRESENCE_THRESHOLD, presence_logit, seen_on
from openferret.model.pictures import EncodedPictures
from openferret.phrases import takes_an
from openferret.processing.preparing import Preparing

SEEN_WEIGHT = 0.7
"""Of what the namer sees on a picture, beside the language model's full weight, where a description names something."""
_NEVER_CERTAIN = 1e-4


def redistribute(logits: Tensor, tokens: Tensor, weights: Tensor) -> None:
    """Shares the probability of some tokens among them anew, in place; that of all others stays.

    Args:
        logits: float [V].
        tokens: int64 [n], each once.
        weights: float [n], logits of the new shares.

    Example:
        >>> logits = torch.tensor([0.0, 2.0, 1.0])
        >>> before = logits.softmax(0)[0]
        >>> redistribute(logits, torch.tensor([1, 2]), torch.tensor([0.0, 3.0]))
        >>> bool(logits[2] > logits[1]), bool(torch.isclose(logits.softmax(0)[0], before))
        (True, True)
    """
    logits[tokens] = logits[tokens].logsumexp(0) + weights.to(logits.dtype).log_softmax(0)


def lay_presence_over(
    model: AnyFerret,
    processor: Preparing,
    encoded: EncodedPictures,
    sought: Sequence[Sought],
    logits: Tensor,
) -> None:
    """Lets locator and namer have their say in the first word of answers about what is there and where, in place.

    Args:
        model: with a locator.
        processor: the model's own.
        encoded: one picture.
        sought: what is asked for in each row, at least one.
        logits: float [rows, V], of the answers' first tokens.
    """
    config = model.config
    found = find_phrases(model, encoded, [phrase_ids(processor, one.phrase) for one in sought])
    yes, no, absent = (processor.tokenize(text)[0] for text in (prompts.YES, prompts.NO, prompts.ABSENT))
    for row, thing, where in zip(logits, sought, found, strict=True):
        pair = (yes, no) if thing.kind == "exists" else (config.phrase_token_id, absent)
        said, seen = float(row[pair[0]] - row[pair[1]]), seen_on(encoded, config.nouns, thing.phrase)
        logit = presence_logit(config, thing.kind, said, where.presence, seen)
        if thing.kind == "where":
            logit -= math.log(PRESENCE_THRESHOLD / (1 - PRESENCE_THRESHOLD))
        tokens = torch.tensor(pair, device=logits.device)
        redistribute(row, tokens, torch.tensor([logit, 0.0], device=logits.device))


class NounEvidence:
    """The namer's opinion as tokens.

    Args:
        token_ids: first tokens of N nouns after a space, then those of the same nouns at a text's beginning, [2N].
        weight: of the namer's opinion on a region, 0 (none) to 1 (the language model's does not count among the nouns).
        device: of the logits.
    """

    def __init__(self, token_ids: Sequence[int], weight: float, device: torch.device) -> None:
        both = torch.tensor(list(token_ids), dtype=torch.long, device=device).view(2, -1)
        self.weight = weight
        self._tables = [torch.unique(row, return_inverse=True) for row in both]
        self._known = frozenset(both.flatten().tolist())

    def __contains__(self, token: int) -> bool:
        return token in self._known

    def lay_over(self, logits: Tensor, nouns: Tensor, beginning: bool) -> None:
        """Moves the probability of nouns towards the namer's of a region, in place.

        Args:
            logits: float [V], of the next token.
            nouns: float [N], the namer's probabilities.
            beginning: the next token begins the answer.
        """
        tokens, shares = self._shares(nouns, beginning)
        if logits[tokens].max().isneginf():
            return  # an answer that has to end here has no nouns to choose from
        own = logits[tokens].log_softmax(0)
        redistribute(logits, tokens, (1 - self.weight) * own + self.weight * shares.clamp(min=1e-6).log())

    def lay_seen_over(self, logits: Tensor, seen: Tensor, beginning: bool) -> None:
        """Lets what is on the picture decide which noun comes next, but never whether one does, in place.

        The likeliest noun is as likely as the language model's likeliest was, so where that would write another word,
        such as "white", it still does.

        Args:
            logits: float [V], of the next token.
            seen: float [N], how likely each noun is somewhere on the picture, 0..1.
            beginning: the next token begins the answer.
        """
        tokens, shares = self._shares(seen, beginning)
        own = logits[tokens]
        if own.max().isneginf():
            return
        both = own + SEEN_WEIGHT * shares.logit(_NEVER_CERTAIN)
        logits[tokens] = both - both.max() + own.max()

    def without(self, seen: Tensor, token: int) -> Tensor:
        """What is on the picture but for a noun that has been named, by its first token: float [N]."""
        left = seen
        for tokens, owner in self._tables:
            left = left.masked_fill(tokens[owner] == token, 0.0)
        return left

    def _shares(self, nouns: Tensor, beginning: bool) -> tuple[Tensor, Tensor]:
        """Every first token once, int64 [n], and the sum of its nouns, float [n]."""
        tokens, owner = self._tables[beginning]
        return tokens, torch.zeros(len(tokens), device=nouns.device).index_add(0, owner, nouns.float())


class ArticleEvidence:
    """The article that the noun wants which the namer has in mind: "a" or "an" is written before its noun is.

    Args:
        processor: of the model.
        token_ids: as of `NounEvidence`.
        device: of the namer's probabilities.
    """

    def __init__(self, processor: Preparing, token_ids: Sequence[int], device: torch.device) -> None:
        pairs = (("a", "an"), ("A", "An"), (" a", " an"))
        ids = [[processor.tokenize(word) for word in pair] for pair in pairs]
        # A vocabulary that takes an article to pieces has no token to choose.
        whole = [(a[0], an[0]) for a, an in ids if len(a) == len(an) == 1]
        self._pairs = {one: pair for pair in whole for one in pair}
        first = list(token_ids)[: len(token_ids) // 2]
        starts = [processor.tokenizer.decode([one]).strip() for one in first]
        self._takes_an = torch.tensor([takes_an(one) for one in starts], device=device)

    def __contains__(self, token: int) -> bool:
        return token in self._pairs

    def fitting(self, token: int, nouns: Tensor) -> int:
        """The article that fits the namer's probabilities float [N], in place of one that was chosen."""
        return self._pairs[token][bool(nouns[self._takes_an].sum() > nouns.sum() / 2)]

    def after(self, token: int, nouns: Tensor) -> Tensor:
        """The namer's probabilities float [N] of those nouns that may follow an article."""
        return nouns * (self._takes_an == (token == self._pairs[token][1]))
