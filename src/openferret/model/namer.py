"""The namer: a region's vector -> nouns, and their words as a hint for the language model.

Trained without the language model, on every named box at once, it learns names from far more regions than
stage L can show; the language model then reads "this is probably a man, a guy or a player" among the words
it already knows, and only has to say it well.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class RegionNamer(nn.Module):
    """Names regions.

    Args:
        width: of the region vectors and of the language model's word embeddings, E.
        nouns: how many names there are, N.
        hidden: width between.
    """

    def __init__(self, width: int, nouns: int, hidden: int = 512) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, hidden)
        self.output = nn.Linear(hidden, nouns)
        self.words = nn.Linear(nouns, width, bias=False)

    def forward(self, regions: Tensor) -> Tensor:
        """Region vectors float [R, E] -> logits of the nouns, [R, N]."""
        hidden = functional.gelu(self.hidden(functional.dropout(self.norm(regions), 0.1, self.training)))
        logits: Tensor = self.output(functional.dropout(hidden, 0.2, self.training))
        return logits

    def hint(self, regions: Tensor) -> Tensor:
        """The mean of the nouns' words, weighted by their probability: float [R, E] -> [R, E]."""
        words: Tensor = self.words(self(regions).softmax(-1))
        return words
