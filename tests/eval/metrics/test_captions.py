import time

import numpy as np
import pytest

from openferret.eval.metrics.captions import Cider, bleu4, bleu_counts, longest_common, rouge_l, tokenize

CANDIDATES = [text.split() for text in ("a man rides a red bike", "two dogs play with a ball", "a girl")]
REFERENCES = [
    [text.split() for text in texts]
    for texts in (
        ("a man on a bike", "the man rides a red bicycle down the street"),
        ("dogs play with a red ball",),
        ("a girl in a pink dress", "a girl"),
    )
]


def test_figures_are_those_of_pycocoevalcap():
    """Golden values of pycocoevalcap 1.2 on the same tokens."""
    sums = np.sum([bleu_counts(*pair) for pair in zip(CANDIDATES, REFERENCES, strict=True)], axis=0)
    assert float(bleu4(sums)) == pytest.approx(0.5792157224074412, abs=1e-12)
    scorer = Cider(REFERENCES)
    found = [scorer.cider_d(tokens, index) for index, tokens in enumerate(CANDIDATES)]
    assert found == pytest.approx([2.6577905041909933, 5.9314799178813615, 3.448086693085161])
    overlap = [rouge_l(*pair) for pair in zip(CANDIDATES, REFERENCES, strict=True)]
    assert overlap == pytest.approx([0.7393939393939394, 0.8333333333333334, 1.0])


def test_plain_cider_punishes_neither_length_nor_repetition():
    scorer = Cider(REFERENCES)
    repeated = ["dogs", "play", "with", "a", "red", "ball", "dogs", "play", "with", "a", "red", "ball"]
    assert scorer.cider(repeated, 1) > scorer.cider_d(repeated, 1)


def test_bleu_by_hand():
    # 3 of 4 words, 2 of 3 pairs, 1 of 2 threes, 0 of 1 fours; of equal length: no penalty.
    counts = bleu_counts(["the", "cat", "sat", "here"], [["the", "cat", "sat", "there"]])
    assert counts == [4, 4, 3, 2, 1, 0, 4, 3, 2, 1]
    short = np.array(bleu_counts(["a", "b", "c", "d"], [["a", "b", "c", "d", "e", "f", "g", "h"]]))
    assert float(bleu4(short)) == pytest.approx(np.exp(1 - 8 / 4))


def test_nothing_said_scores_nothing():
    assert float(bleu4(np.array(bleu_counts([], REFERENCES[0])))) == pytest.approx(0)
    assert Cider(REFERENCES).cider_d([], 0) == 0
    assert rouge_l([], REFERENCES[0]) == 0


def test_longest_common_by_hand():
    assert longest_common(["a", "b", "c", "d", "e"], ["b", "x", "d", "e"]) == 3


def test_a_megabyte_is_read_in_linear_time():
    started = time.process_time()
    assert len(tokenize("word " * 200_000)) == 1000
    rouge_l(tokenize("word " * 200_000), [["word"] * 20])
    assert time.process_time() - started < 1
