"""Which noun an answer says, and in which form: the namer's opinion laid over the language model's words.

A noun is not said in one way only: a man is "a man", but what he wears is "jeans", and what he stands on "grass".
Where an answer begins with "a", most of what cannot be counted is out of reach, so the namer has its say in that word
already; and where a noun takes several tokens, in each of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from openferret.generation.evidence import redistribute
from openferret.phrases import with_determiner
from openferret.processing.preparing import Preparing

NAMED_WEIGHT = 0.8
"""Of the namer's opinion on a region among nouns, 0..1; the rest is the language model's."""
SEEN_WEIGHT = 0.9
"""Of what the namer sees on a picture, beside the language model's full weight, where a description names something."""
_NEVER_CERTAIN = 1e-4
_LEAST = 1e-6
_RARE = 1e-3
_USUAL = math.log(0.6 / 0.4)
"""Log odds of an article at the beginning of what names a region."""

Form: TypeAlias = tuple[int, tuple[int, ...], tuple[int, ...], bool, float, float]
"""A noun's number; the tokens of one of its forms after a space and at a text's beginning; whether that form takes
"an"; and which share of the noun's phrases say it in this form with an article, and without."""


def plain_shares(noun: str) -> tuple[float, float]:
    """With an article or without, by rule, for a noun of which nobody has counted how it is said.

    Example:
        >>> plain_shares("giraffe"), plain_shares("scissors")
        ((1.0, 0.0), (0.0, 1.0))
    """
    article = with_determiner(noun).startswith(("a ", "an "))
    return (1.0, 0.0) if article else (0.0, 1.0)


@dataclass(frozen=True)
class _Place:
    """F forms where they stand alike: after a space, or at a text's beginning.

    Attributes:
        spelled: the tokens of each.
        first: int64 [n], every first token once.
        owner: int64 [F], which of these a form begins with.
    """

    spelled: tuple[tuple[int, ...], ...]
    first: Tensor
    owner: Tensor

    @classmethod
    def of(cls, spelled: tuple[tuple[int, ...], ...], device: torch.device) -> _Place:
        """From the tokens of the forms."""
        first, owner = torch.unique(
            torch.tensor([one[0] for one in spelled], device=device), return_inverse=True
        )
        return cls(spelled, first, owner)

    def sums(self, forms: Tensor) -> Tensor:
        """Of the numbers of forms that share a first token: float [F] -> float [n]."""
        return torch.zeros(len(self.first), device=forms.device).index_add(0, self.owner, forms.float())


class NounEvidence:
    """The namer's opinion as tokens: mostly it chooses the noun, and the language model how it is said.

    Args:
        processor: of the model.
        forms: in which its N nouns are said.
        device: of the logits.
    """

    def __init__(self, processor: Preparing, forms: Sequence[Form], device: torch.device) -> None:
        noun, after, first, takes_an, *shares = zip(*forms, strict=True)
        self._noun = torch.tensor(noun, device=device)
        # A folder that was opened without transformers has JSON's lists.
        self._places = [_Place.of(tuple(map(tuple, one)), device) for one in (after, first)]
        self._takes_an = torch.tensor(takes_an, device=device)
        self._with, self._without = (torch.tensor(one, device=device) for one in shares)
        self._known = frozenset(one[0] for one in (*after, *first))
        pairs = (("a", "an"), ("A", "An"), (" a", " an"))
        ids = [[processor.tokenize(word) for word in pair] for pair in pairs]
        # A vocabulary that takes an article to pieces has no token to choose.
        whole = [(a[0], an[0]) for a, an in ids if len(a) == len(an) == 1]
        self._articles = {one: pair for pair in whole for one in pair}
        self._article_tokens = torch.tensor(sorted(self._articles), dtype=torch.long, device=device)

    def begins_noun(self, token: int) -> bool:
        """Whether a noun can begin with a token."""
        return token in self._known

    def is_article(self, token: int) -> bool:
        """Whether a token is "a" or "an"."""
        return token in self._articles

    def lay_over(
        self, logits: Tensor, nouns: Tensor, written: Sequence[int], begun: int | None = None
    ) -> Tensor | None:
        """Moves the probability of nouns, and of an article before them, towards the namer's of a region, in place.

        Args:
            logits: float [V], of the next token.
            nouns: float [N], the namer's probabilities.
            written: tokens of the answer so far.
            begun: where in it a noun begins; None if there is none yet.

        Returns:
            bool [V], tokens that are less likely than their opposite, such as "a" where most likely no article
            follows. An answer of the likeliest tokens has none of them: the opposite is spread over many tokens, so
            that one of them may still be the likeliest of all. None if there are none.
        """
        articles = bool(written) and self.is_article(written[0]) and begun != 0
        said = self._with if articles else self._without
        if begun is not None:
            forms = nouns[self._noun] * said
            return self._go_on(logits, forms, tuple(written[begun:]), beginning=not begun)
        if written and self.is_article(written[-1]):
            said = said * (self._takes_an == (written[-1] == self._articles[written[-1]][1]))
        place = self._places[not written]
        own = logits[place.first]
        if own.max().isneginf():
            return None  # an answer that has to end here has no nouns to choose from
        shares = place.sums(self._shares(nouns, said, own.softmax(0)[place.owner]))
        both = NAMED_WEIGHT * shares.log().log_softmax(0) + (1 - NAMED_WEIGHT) * own.log_softmax(0)
        redistribute(logits, place.first, both)
        return None if written else self._choose_article(logits, nouns)

    def may_go_on(self, written: Sequence[int], begun: int) -> bool:
        """Whether what has been written of a noun is the beginning of a longer one.

        Args:
            written: tokens of an answer.
            begun: where the noun begins.
        """
        part = tuple(written[begun:])
        spelled = self._places[not begun].spelled
        return any(len(one) > len(part) and one[: len(part)] == part for one in spelled)

    def bar_noun(self, logits: Tensor) -> None:
        """Keeps another noun from following at once, in place: "a rock face" is no rock."""
        logits[self._places[False].first] = -torch.inf

    def fitting(self, token: int, nouns: Tensor) -> int:
        """The article that fits the likeliest noun, by the namer's probabilities float [N], for one that was chosen."""
        likeliest = (nouns[self._noun] * self._with).argmax()
        return self._articles[token][bool(self._takes_an[likeliest])]

    def lay_seen_over(self, logits: Tensor, seen: Tensor, beginning: bool) -> None:
        """Lets what is on the picture decide which noun comes next, but never whether one does, in place.

        The likeliest noun is as likely as the language model's likeliest was, so where that would write another word,
        such as "white", it still does.

        Args:
            logits: float [V], of the next token.
            seen: float [N], how likely each noun is somewhere on the picture, 0..1.
            beginning: the next token begins the answer.
        """
        place = self._places[beginning]
        own = logits[place.first]
        if own.max().isneginf():
            return
        both = own + SEEN_WEIGHT * place.sums(seen[self._noun]).logit(_NEVER_CERTAIN)
        logits[place.first] = both - both.max() + own.max()

    def without(self, seen: Tensor, token: int) -> Tensor:
        """What is on the picture but for a noun that has been named, by its first token: float [N]."""
        named = torch.zeros_like(seen, dtype=torch.bool)
        for place in self._places:
            named[self._noun[place.first[place.owner] == token]] = True
        return seen.masked_fill(named, 0.0)

    def _sums(self, forms: Tensor, size: int) -> Tensor:
        """Of the numbers of one noun's forms: float [F] -> float [N]."""
        return forms.new_zeros(size).index_add(0, self._noun, forms)

    def _shares(self, nouns: Tensor, said: Tensor, own: Tensor) -> Tensor:
        """Of forms, float [F]: a noun's is the namer's, and is shared among its forms as the language model would.

        Args:
            nouns: float [N], the namer's probabilities.
            said: float [F], share of the noun's phrases that say it so here.
            own: float [F], the language model's probabilities.
        """
        wanted = said * own.clamp(min=_LEAST)
        here, whole = self._sums(said, len(nouns)), self._sums(wanted, len(nouns)).clamp(min=_LEAST**2)
        return ((nouns * here / whole)[self._noun] * wanted).clamp(min=_LEAST**2)

    def _choose_article(self, logits: Tensor, nouns: Tensor) -> Tensor | None:
        # Whether the likeliest noun is said with one; not all nouns that are against all that are not: of "sunglasses"
        # and four words for a person the first may still be the likeliest. What the language model knows of this
        # region counts, too, as far as it says more than is said of anything: "a person", but a crowd is "people".
        of_it = self._noun == self._noun[nouns[self._noun].argmax()]
        return self._decide(
            logits,
            self._article_tokens,
            self._with[of_it].sum(),
            self._without[of_it].sum(),
            told=_log_odds(logits, self._article_tokens) - _USUAL,
        )

    def _go_on(self, logits: Tensor, forms: Tensor, part: tuple[int, ...], beginning: bool) -> Tensor | None:
        """A noun's next token, or its end, where forms float [F] may begin with what has been written of it."""
        whole, longer = forms.new_zeros(()), dict[int, Tensor]()
        for number, one in enumerate(self._places[beginning].spelled):
            if one == part:
                whole = whole + forms[number]
            elif one[: len(part)] == part:
                following = one[len(part)]
                longer[following] = longer.get(following, forms.new_zeros(())) + forms[number]
        if not longer:
            return None
        tokens, shares = torch.tensor(list(longer), device=logits.device), torch.stack([*longer.values()])
        if logits[tokens].max().isneginf():
            return None
        redistribute(logits, tokens, shares.clamp(min=_LEAST).log())
        return self._decide(logits, tokens, shares.sum(), whole)

    def _decide(
        self, logits: Tensor, tokens: Tensor, chosen: Tensor, other: Tensor, told: Tensor | float = 0.0
    ) -> Tensor | None:
        """Gives some tokens together the log odds of two probabilities, and `told`, against all others, in place.

        Returns:
            bool [V], the less likely of the two.
        """
        if not len(tokens):
            return None
        own = _log_odds(logits, tokens)
        if not own.isfinite():
            return None
        # What nobody has said in thousands of phrases may still be said.
        wanted = chosen.clamp(min=_RARE).log() - other.clamp(min=_RARE).log() + told
        logits[tokens] += wanted - own
        among = torch.zeros_like(logits, dtype=torch.bool).index_fill(0, tokens, True)
        return ~among if wanted >= 0 else among


def _log_odds(logits: Tensor, tokens: Tensor) -> Tensor:
    """Of some tokens together against all others."""
    rest = logits.index_fill(0, tokens, -torch.inf)
    return logits[tokens].logsumexp(0) - rest.logsumexp(0)
