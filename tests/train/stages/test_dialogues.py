import re

import numpy as np
import pytest

from openferret import prompts
from openferret.flickr30k import EntitiesPicture, read_caption
from openferret.train.stages.classes import balanced_classes
from openferret.train.stages.dialogues import MIXTURE, Link, Writer, linked, tidy, write_exchanges
from openferret.train.stages.pictures import WHOLE, Crop, Named, Record, flickr_record

BOXES = {"1": ((0.1, 0.1, 0.5, 0.9),), "2": ((0.4, 0.5, 0.9, 0.9),)}
CAPTION = read_caption("[/EN#1/people A man] riding [/EN#2/vehicles a bike] on the left .", BOXES)
RECORD = flickr_record(0, EntitiesPicture("a", (CAPTION,)))
OTHER = flickr_record(1, EntitiesPicture("b", (read_caption("[/EN#2/animals A dog] .", BOXES),)))


def writer(crop=WHOLE, seed=0):
    return Writer(RECORD, crop, [OTHER], 16, np.random.default_rng(seed))


def test_linked_phrases_become_a_relation():
    (link,) = linked(CAPTION)
    assert link == Link("a man", "riding", "a bike", BOXES["1"][0], BOXES["2"][0])
    assert link.doing
    assert not link.placed


def test_relations_are_asked_for_in_several_ways():
    asked = {}
    for seed in range(60):
        one = writer(seed=seed).relate()
        assert one.question.count(prompts.REGION_TOKEN) == len(one.regions) == 2
        asked[re.sub(r"(<loc_\d+>)+<region_fea>", "R", one.question)] = one.answer
    assert asked == {
        "How are R and R related?": "a man riding a bike",
        "What is the relation between R and R?": "a man riding a bike",
        "What is R doing to R?": "riding a bike",
        "What is R doing with R?": "riding a bike",
    }


def test_what_lies_somewhere_is_asked_where():
    caption = read_caption("[/EN#1/people A man] on [/EN#2/vehicles a bike] .", BOXES)
    record = flickr_record(0, EntitiesPicture("a", (caption,)))
    asked = {
        Writer(record, WHOLE, [OTHER], 16, np.random.default_rng(seed)).relate().answer for seed in range(30)
    }
    assert asked == {"on a bike", "a man on a bike"}


def classes_record(row, *names, crowds=()):
    named = tuple(
        Named(f"a {name}", name, ((0.1 * place, 0.1, 0.1 * place + 0.1, 0.5),), name == "person")
        for place, name in enumerate(names)
    )
    return Record(row, named, frozenset({*names, *crowds}), "person" in names, name=f"coco:{row}")


COUNTED = [
    classes_record(1, "person", "dog"),
    classes_record(2, "person", "cup", "cup"),
    classes_record(3, "person", crowds=("dog",)),
    classes_record(4, "cup"),
    classes_record(5, "dog", "bus"),
]


def asked_of(record, seeds):
    for seed in range(seeds):
        yield from write_exchanges(
            record, WHOLE, [*COUNTED, OTHER], 16, np.random.default_rng(seed), balanced_classes(COUNTED)
        )


@pytest.mark.parametrize("record", COUNTED, ids=lambda record: record.name)
def test_where_classes_are_all_annotated_only_they_are_called_absent(record):
    absent, definite, present = set(), set(), set()
    for one in asked_of(record, 60):
        if one.answer in {prompts.ABSENT, prompts.NO}:
            noun = re.search(
                r"\b(?:a|the) (\w+)", one.question.replace("the picture", "").replace("the image", "")
            )
            absent.add(noun.group(1))
            definite |= {noun.group()} if "Where" in one.question else set()
        elif one.task in {"exists", "ground"}:
            present.add(re.search(r"<phrase>(?:a|the) (\w+)<box>", one.answer).group(1))
    assert absent
    assert not absent & record.heads
    assert absent <= {"person", "dog", "cup", "bus"}  # no phrase of another picture's caption
    assert present == {one.head for one in record.named}
    assert {phrase.split()[0] for phrase in definite} == {"a", "the"}


def test_classes_have_all_their_boxes():
    answers = {one.answer for one in asked_of(COUNTED[1], 30) if one.task == "exists" and "cup" in one.answer}
    assert answers == {
        "Yes, <phrase>a cup<box><loc_100><loc_100><loc_200><loc_500><box><loc_200><loc_100><loc_300><loc_500>."
    }


def test_without_a_name_nothing_is_asked():
    bare = Record(9, (), frozenset(), False, name="mine:9")
    assert write_exchanges(bare, WHOLE, [OTHER], 16, np.random.default_rng(0)) == []


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
