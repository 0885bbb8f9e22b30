import re

import numpy as np
import pytest

from openferret import prompts
from openferret.flickr30k import EntitiesPicture, read_caption
from openferret.train.stages.dialogues import MIXTURE, Writer, linked, tidy, write_exchanges
from openferret.train.stages.pictures import WHOLE, Crop, flickr_record

BOXES = {"1": ((0.1, 0.1, 0.5, 0.9),), "2": ((0.4, 0.5, 0.9, 0.9),)}
CAPTION = read_caption("[/EN#1/people A man] riding [/EN#2/vehicles a bike] on the left .", BOXES)
RECORD = flickr_record(0, EntitiesPicture("a", (CAPTION,)))
OTHER = flickr_record(1, EntitiesPicture("b", (read_caption("[/EN#2/animals A dog] .", BOXES),)))


def writer(crop=WHOLE, seed=0):
    return Writer(RECORD, crop, [OTHER], 16, np.random.default_rng(seed))


def test_linked_phrases_become_a_relation():
    assert linked(CAPTION) == [(BOXES["1"][0], "a man riding a bike", BOXES["2"][0])]


def test_a_caption_is_grounded_after_its_phrases():
    answer = writer().describe().answer
    assert answer == (
        "<phrase>A man<box><loc_100><loc_100><loc_500><loc_900> riding "
        "<phrase>a bike<box><loc_400><loc_500><loc_900><loc_900> on the left."
    )


def test_a_mirrored_caption_swaps_words_and_boxes():
    answer = writer(Crop(0.0, 0.0, 1.0, 1.0, True)).describe().answer
    assert answer.endswith("on the right.")
    assert "<phrase>A man<box><loc_500><loc_100><loc_900><loc_900>" in answer


def test_a_crop_that_loses_a_phrase_is_not_described():
    assert writer(Crop(0.0, 0.0, 0.4, 0.4, False)).describe() is None


def test_absent_phrases_come_from_elsewhere():
    assert {writer(seed=seed).absent() for seed in range(5)} == {"a dog"}


@pytest.mark.parametrize("seed", range(8))
def test_every_exchange_has_the_points_its_question_shows(seed):
    exchanges = write_exchanges(RECORD, WHOLE, [OTHER], 16, np.random.default_rng(seed))
    assert {one.task for one in exchanges} <= set(MIXTURE)
    for one in exchanges:
        assert one.question.count(prompts.REGION_TOKEN) == len(one.regions)
        assert all(points.shape == (16, 2) for points in one.regions)
        boxes = re.findall(r"<box>((?:<loc_\d+>)*)", one.answer)
        assert all(box.count("<loc_") == 4 for box in boxes)


def test_tidy_joins_punctuation():
    assert tidy("A man 's hat , red .") == "A man's hat, red."
