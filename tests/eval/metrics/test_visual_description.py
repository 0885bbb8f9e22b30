import numpy as np
import pytest

from openferret.eval.metrics.visual_description import Reference, class_counts, f1_all, f1_loc

FULL, LEFT, RIGHT = (0, 0, 1, 1), (0, 0, 0.5, 1), (0.5, 0, 1, 1)
CLASSES = {"dog": 0, "man": 1}


def test_by_hand():
    """The dog is right and in its place, the man right and out of place, the hat is nobody's."""
    reference = Reference({"dog": [LEFT], "man": [RIGHT]})
    counts = class_counts({"dog": LEFT, "man": LEFT, "hat": FULL}, [reference], CLASSES)
    # Over dog and man: precision 1/1 and 0/1, recall 1/1 and 0/1.
    assert float(f1_all(counts)) == pytest.approx(0.5)
    assert float(f1_loc(counts)) == pytest.approx(0.5)


def test_a_word_that_is_not_said_costs_recall_in_all_but_not_in_loc():
    reference = Reference({"dog": [LEFT], "man": [RIGHT]})
    counts = class_counts({"dog": LEFT}, [reference], CLASSES)
    assert float(f1_all(counts)) == pytest.approx(2 * 0.5 * 0.5 / 1.0)
    both = counts + class_counts({"dog": LEFT, "man": RIGHT}, [reference], CLASSES)
    # all: precision (1 + 1) / 2, recall (1 + 1/2) / 2; loc: everything that was said is in its place.
    assert float(f1_all(both)) == pytest.approx(2 * 1 * 0.75 / 1.75)
    assert float(f1_loc(both)) == pytest.approx(1)


def test_a_hallucinated_class_costs_precision_in_all_but_not_in_loc():
    references = [Reference({"dog": [LEFT]})]
    counts = class_counts({"dog": LEFT, "man": FULL}, references, CLASSES)
    counts = counts + class_counts({"man": RIGHT}, [Reference({"man": [RIGHT]})], CLASSES)
    assert float(f1_all(counts)) == pytest.approx(2 * 0.75 * 1 / 1.75)
    assert float(f1_loc(counts)) == pytest.approx(1)


def test_a_word_that_the_reference_has_without_a_box_is_not_punished():
    reference = Reference({"dog": [LEFT]}, frozenset({"man"}))
    assert float(f1_all(class_counts({"dog": LEFT, "man": FULL}, [reference], {"dog": 0}))) == 1


def test_a_name_without_a_box_is_not_localised():
    counts = class_counts({"dog": None}, [Reference({"dog": [FULL]})], {"dog": 0})
    assert float(f1_all(counts)) == 0
    assert float(f1_loc(counts)) == 0


def test_half_overlap_is_not_enough():
    """The published rule is IoU > 0.5, not >=."""
    counts = class_counts({"dog": LEFT}, [Reference({"dog": [FULL]})], {"dog": 0})
    assert float(f1_all(counts)) == 0


def test_each_caption_is_a_reference_of_its_own():
    references = [Reference({"dog": [LEFT]}), Reference({"man": [RIGHT]})]
    counts = class_counts({"dog": LEFT}, references, CLASSES)
    # dog: right once, wrong once (the second caption has no dog); recall 1/1. man: never said.
    assert float(f1_all(counts)) == pytest.approx(2 * 0.25 * 0.5 / 0.75)


def test_nothing_said():
    assert float(f1_all(np.zeros(12))) == 0


def test_a_class_that_a_sample_lacks_is_not_averaged_in():
    """Otherwise every bootstrap sample, which lacks some classes, would lie below the figure itself."""
    counts = class_counts({"dog": LEFT}, [Reference({"dog": [LEFT]})], CLASSES)
    assert float(f1_all(counts)) == float(f1_loc(counts)) == 1
