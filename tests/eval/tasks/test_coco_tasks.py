"""The tasks on COCO, LVIS and POPE files."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from openferret.answer import Answer, LocatedBox, Mention
from openferret.errors import InputError
from openferret.eval import runner
from openferret.eval.questions import Reply
from openferret.eval.tasks import coco as reader
from openferret.eval.tasks import load
from openferret.eval.tasks.ground_classes import Wanted, grounding_benchmark
from openferret.eval.tasks.name_classes import naming_benchmark
from openferret.regions import Box


def value(score, name, rule="strict"):
    return next(one.estimate.value for one in score.figures if (one.name, one.rule) == (name, rule))


def change(coco, what):
    content = json.loads(coco["annotations"].read_text())
    what(content)
    coco["annotations"].write_text(json.dumps(content))


def test_crowds_and_boxes_without_area_are_left_out(coco):
    data = reader.read_coco(coco["annotations"])
    assert (len(data.instances), data.left_out) == (7, (1, 1))
    assert data.classes_on() == {"1": {1, 2, 3}, "2": {1, 3, 4}, "3": {1, 5}}


@pytest.mark.parametrize(
    ("what", "match"),
    [
        (lambda content: content["images"].append(content["images"][0]), "image 1 stands twice"),
        (lambda content: content["categories"].append(content["categories"][0]), "category 1 stands twice"),
        (
            lambda content: content["annotations"].append(content["annotations"][0]),
            "annotation 0 stands twice",
        ),
        (lambda content: content["annotations"][0].update(image_id=99), "KeyError"),
        (lambda content: content["annotations"][0].update(bbox=[1, 2]), "not a COCO or LVIS"),
        (lambda content: content["annotations"][0].update(bbox=["a", 1, 2, 3]), "not a COCO or LVIS"),
        (lambda content: content["images"][0].update(width=0), "0 x 40 pixels"),
        (lambda content: content["images"][0].update(width=10**9), "1000000000 x 40 pixels"),
        (lambda content: content["categories"][0].update(name=" "), "category 1 has no name"),
        (lambda content: content.pop("images"), "not a COCO or LVIS"),
    ],
)
def test_malformed_files_are_named(coco, what, match):
    change(coco, what)
    with pytest.raises(InputError, match=match):
        reader.read_coco(coco["annotations"])


@pytest.mark.parametrize(
    "segmentation", [None, [], [[1, 2]], [[1, 1, 1, 1, 1, 1]], [[1e300, 0, 0, 1e300, 5, 5]]]
)
def test_an_object_without_a_usable_outline_is_its_box(coco, segmentation):
    data = reader.read_coco(coco["annotations"])
    one = replace(data.instances[0], segmentation=segmentation)
    assert reader.instance_mask(one, data.pictures["1"]).any()


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools's own
def test_masks_are_those_of_pycocotools(coco):
    mask = pytest.importorskip("pycocotools.mask")
    data = reader.read_coco(coco["annotations"])
    outline = [[10.0, 5, 33, 8, 28, 30, 12, 25]]
    ours = reader.instance_mask(replace(data.instances[0], segmentation=outline), data.pictures["1"])
    theirs = mask.decode(mask.merge(mask.frPyObjects(outline, 40, 60))).astype(bool)
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.9
    rle = mask.encode(np.asfortranarray(theirs))
    again = reader.instance_mask(replace(data.instances[0], segmentation=rle), data.pictures["1"])
    assert (again == theirs).all()


def test_two_choices_point_into_the_mask_and_the_right_one_stands_first_in_even_rows(coco):
    benchmark = load("lvis-refer", coco)
    assert len(benchmark.questions) == 21  # 7 objects in 3 ways; the first picture's are asked first
    first, second = benchmark.questions[0], benchmark.questions[3]
    assert first.text.startswith("Is the object [0] of the image a person or a ")
    assert second.text.endswith("or a dog?")
    for question in benchmark.questions:
        for spot in question.spots:
            if spot.kind != "box":
                xs, ys = spot.numbers[::2], spot.numbers[1::2]
                assert all(10 / 60 <= x <= 30 / 60 for x in xs)
                assert all(5 / 40 <= y <= 25 / 40 for y in ys)
    assert load("lvis-refer", coco).questions == benchmark.questions
    assert load("lvis-refer", {**coco, "seed": 1}).questions != benchmark.questions


def test_hard_choices_are_the_likely_ones(coco):
    hard = load("lvis-refer", {**coco, "negatives": "hard"})
    cup = next(one for one in hard.questions if one.id == "6 box")
    # Of what is not on the cup's picture (people are, as a crowd), cars are on most; row 6 is even.
    assert cup.text == "Is the object [0] of the image a cup or a car?"
    dog = next(one for one in hard.questions if one.id == "1 box")
    assert "kite" in dog.text or "cup" in dog.text


def test_lvis_takes_only_what_it_says_is_absent(coco):
    change(
        coco,
        lambda content: content["images"][2].update(neg_category_ids=[4], not_exhaustive_category_ids=[2]),
    )
    cups = [one for one in load("lvis-refer", coco).questions if one.picture == "3"]
    assert all("kite" in one.text for one in cups)


def test_two_choices_by_hand(coco, reply):
    benchmark = load("lvis-refer", coco)
    replies = {one.id: reply("It is a person.") for one in benchmark.questions}
    score = benchmark.score(benchmark.questions, replies)
    assert value(score, "accuracy, point") == pytest.approx(2 / 7)
    assert value(score, "accuracy, free-form", "official") == pytest.approx(2 / 7)
    assert score.valid[1] == 21


def test_accuracy_by_frequency(coco, reply):
    def mark(content):
        for one, frequency in zip(content["categories"], "rcfff", strict=True):
            one["frequency"] = frequency

    change(coco, mark)
    benchmark = load("lvis-refer", coco)
    score = benchmark.score(benchmark.questions, {one.id: reply("a person") for one in benchmark.questions})
    assert value(score, "accuracy, box, rare") == 1
    assert value(score, "accuracy, box, frequent") == 0


def test_ferrets_own_layout_is_read(tmp_path, reply):
    row = {"id": 3, "image_path": "coco/val2017/1.jpg", "width": 100, "height": 50, "sample_point": [10, 20]}
    row |= {
        "bbox_norm": [0.1, 0.2, 0.3, 0.4],
        "name": "dog",
        "synonyms": ["dog", "hound"],
        "neg_class": "cat",
    }
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps(row) + "\n")
    benchmark = load("lvis-refer", {"images": tmp_path, "questions": file})
    assert [one.id for one in benchmark.questions] == ["3 box", "3 point"]
    assert benchmark.questions[1].spots[0].numbers == (0.1, 0.4)
    score = benchmark.score(benchmark.questions, {one.id: reply("a hound") for one in benchmark.questions})
    assert value(score, "accuracy, box") == 1
    file.write_text('{"id": 1}\n')
    with pytest.raises(InputError, match="row 1 is not of Ferret's layout"):
        load("lvis-refer", {"images": tmp_path, "questions": file})


def test_genuine_lvis(shared):
    benchmark = load(
        "lvis-refer", {"images": shared, "annotations": shared / "data/formats/lvis/lvis_val_36.json"}
    )
    assert len({one.picture for one in benchmark.questions}) > 25
    assert len(benchmark.questions) > 300


def test_only_some_pictures(coco, tmp_path):
    (tmp_path / "only.txt").write_text("000000000002\n")
    benchmark = load("lvis-refer", {**coco, "only": tmp_path / "only.txt"})
    assert {one.picture for one in benchmark.questions} == {"2"}
    (tmp_path / "only.txt").write_text("zzz\n")
    with pytest.raises(InputError, match="names none"):
        load("lvis-refer", {**coco, "only": tmp_path / "only.txt"})


def test_pope_is_built_as_the_paper_says(coco):
    benchmark = load("pope", coco)
    asked = [one for one in benchmark.questions if one.id.startswith("popular 1 ")]
    assert [one.text for one in asked[3:]] == [
        "Is there a cup in the image?",
        "Is there a kite in the image?",
    ] or [one.text for one in asked[3:]] == ["Is there a kite in the image?", "Is there a cup in the image?"]
    adversarial = [one for one in benchmark.questions if one.id.startswith("adversarial 1 ")]
    assert "kite" in adversarial[3].text  # seen with person and car on another picture; the cup never
    assert not any(one.picture == "3" for one in benchmark.questions)  # a single class
    assert load("pope", coco).questions == benchmark.questions


def test_genuine_pope_files_by_hand(shared, reply, tmp_path):
    folder = shared / "data" / "formats" / "pope"
    files = [folder / f"coco_pope_{kind}.json" for kind in ("random", "popular", "adversarial")]
    benchmark = load("pope", {"images": tmp_path, "questions": files})
    assert len(benchmark.questions) == 1800
    truth = {}
    for file in files:
        for line in file.read_text().splitlines():
            item = json.loads(line)
            truth[f"{file.stem} {item['question_id']}"] = item["label"]
    perfect = {one.id: reply(truth[one.id].capitalize()) for one in benchmark.questions}
    score = benchmark.score(benchmark.questions, perfect)
    assert value(score, "F1, adversarial", "official") == 1
    empty = {one.id: reply("") for one in benchmark.questions}
    score = benchmark.score(benchmark.questions, empty)
    assert value(score, "said yes, random", "official") == 1
    assert value(score, "accuracy, random", "official") == pytest.approx(0.5, abs=0.01)
    assert value(score, "accuracy, random") == 0
    assert score.valid[0] == 0


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ('{"question_id": 1, "image": "a", "text": "?"}', "line 1 lacks"),
        ('{"question_id": 1, "image": "a", "text": "?", "label": "maybe"}', "line 1 lacks"),
        (
            '{"question_id": 1, "image": "a", "text": "?", "label": "no"}\n' * 2,
            "line 2 has the question_id 1",
        ),
        ("nonsense", "not JSON"),
    ],
)
def test_malformed_pope_files_are_named(tmp_path, content, match):
    file = tmp_path / "pope.json"
    file.write_text(content)
    with pytest.raises(InputError, match=match):
        load("pope", {"images": tmp_path, "questions": [file]})


@pytest.mark.parametrize("task", ["pope", "lvis-refer"])
def test_one_source_of_questions(tmp_path, task):
    with pytest.raises(InputError, match="either"):
        load(task, {"images": tmp_path})


def test_chair_by_hand(coco, reply, tmp_path):
    captions = {"annotations": [{"image_id": 3, "caption": "A dog looks at a cup."}]}
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    benchmark = load("chair", {**coco, "captions": tmp_path / "captions.json"})
    replies = {
        "1": reply("A man and a puppy in a car."),
        "2": reply("A cat."),
        "3": reply("A dog."),
    }
    score = benchmark.score(benchmark.questions, replies)
    assert value(score, "CHAIR_i, share of named objects") == pytest.approx(2 / 5)
    assert value(score, "CHAIR_i, share of named objects", "official") == pytest.approx(1 / 5)
    assert value(score, "CHAIR_s, share of captions") == pytest.approx(2 / 3)
    assert value(score, "coverage, share of objects there that are named") == pytest.approx(3 / 8)


def test_chair_needs_words_for_every_class(coco):
    change(coco, lambda content: content["categories"][0].update(name="unicorn"))
    with pytest.raises(InputError, match="unicorn"):
        load("chair", coco)


def test_pictures_are_found_under_the_names_of_both_years(tmp_path, picture):
    one = reader.CocoPicture("7", "COCO_val2014_000000000007.jpg", 9, 9)
    assert reader.picture_files(tmp_path, [one])["7"].name == one.name
    plain = picture(tmp_path / "000000000007.jpg")
    assert reader.picture_files(tmp_path, [one])["7"] == plain


def test_pictures_in_folders_and_with_spaces_in_their_names_are_found(coco, tmp_path, picture):
    names = {"1": "a/my cat.jpg", "2": "b/my cat.jpg", "3": "../../b/3.jpg"}
    change(coco, lambda content: [one.update(file_name=names[str(one["id"])]) for one in content["images"]])
    for folder in ("a", "b"):
        picture(coco["images"] / folder / "my cat.jpg")
    files = load("ground-classes", coco).pictures
    found = [str(files[key].relative_to(coco["images"])) for key in "123"]
    assert found == ["a/my cat.jpg", "b/my cat.jpg", "b/3.jpg"]
    for line in ("b/my cat.jpg", "b/my cat"):
        (tmp_path / "only.txt").write_text(f"{line}\r\n")
        asked = load("ground-classes", {**coco, "only": tmp_path / "only.txt"}).questions
        assert {one.picture for one in asked} == {"2"}


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_a_name_that_no_file_can_have_is_missing(coco, name):
    change(coco, lambda content: content["images"][0].update(file_name=name))
    benchmark = load("ground-classes", coco)
    assert len(runner.plan(benchmark).missing) == 1
    assert runner.score_replies(benchmark, runner.plan(benchmark, look=False), {}, None, None, None)["n"]


def test_another_picture_is_never_taken_for_the_one_named(tmp_path, picture):
    picture(tmp_path / "1.jpg")
    one = reader.CocoPicture("7", "dog_1.jpg", 9, 9)
    assert reader.picture_files(tmp_path, [one])["7"].name == "dog_1.jpg"


@pytest.mark.parametrize("task", ["pope", "lvis-refer", "chair"])
@pytest.mark.parametrize("said", ["", "x" * 1_000_000, " no" * 100_000, "[" * 300_000])
def test_any_answer_is_scored(coco, reply, task, said):
    benchmark = load(task, coco)
    planned = runner.plan(benchmark)
    assert benchmark.score(planned.questions, {one.id: reply(said) for one in planned.questions}).figures


def test_classes_are_asked_for_in_one_box_and_in_each(coco):
    benchmark = load("ground-classes", {**coco, "absent": 1})
    merged = [one for one in benchmark.questions if one.merge]
    assert {one.forced for one in merged} == {True}
    assert len({one.id for one in benchmark.questions}) == len(benchmark.questions)
    nothing = benchmark.score(benchmark.questions, {})
    assert value(nothing, "R@1") == 0
    assert value(nothing, "said to be there, of what is") == 0


def test_boxes_that_are_right_count_once_each(coco):
    benchmark = grounding_benchmark([Wanted("1", "cat", ((0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1)))], {})
    merged, each = benchmark.questions

    def reply(question, *boxes):
        located = tuple(LocatedBox.of(Box(*(100 * side for side in box)), 100, 100, 0.9) for box in boxes)
        return Reply(Answer("cat", (Mention("cat", (0, 3), located),), 100, 100, "fake", {}))

    whole, half = (0, 0, 1, 1), (0, 0, 0.5, 0.5)
    said = {merged.id: reply(merged, whole), each.id: reply(each, half, half)}
    score = benchmark.score(benchmark.questions, said)
    assert value(score, "R@1") == 1
    assert value(score, "F1 of boxes") == pytest.approx(0.5)
    assert value(score, "said to be there, of what is") == 1


def test_a_box_is_named_if_the_answer_has_its_class(coco):
    benchmark = naming_benchmark([Wanted("1", "acme_logo", ((0, 0, 0.5, 0.5),) * 2)], {}, each=2)
    first, second = benchmark.questions
    said = {
        first.id: Reply(Answer("an acme logo", (), 10, 10, "fake", {})),
        second.id: Reply(Answer("a logo", (), 10, 10, "fake", {})),
    }
    assert value(benchmark.score(benchmark.questions, said), "named") == 0.5
    assert load("name-classes", dict(coco)).questions[0].text == "What is [0]?"


def test_a_crowd_is_there_and_no_class_of_it_is_asked_for_as_absent(coco, reply):
    """Picture 3 has people only as a crowd."""
    assert reader.read_coco(coco["annotations"]).classes_on()["3"] == {1, 5}
    for seed in range(5):
        pope = load("pope", {**coco, "seed": seed}).questions
        assert not any(one.id.endswith(" 3 1") for one in pope)
        assert not any(
            "person" in one.text for one in load("lvis-refer", coco).questions if one.picture == "3"
        )
        absent = load("ground-classes", {**coco, "absent": 5, "seed": seed}).questions
        assert not any(one.phrases == ("person",) for one in absent if one.picture == "3")
    chair = load("chair", coco)
    score = chair.score(chair.questions[2:], {"3": reply("People and a cup.")})
    assert value(score, "CHAIR_i, share of named objects") == 0


def test_names_are_asked_of_many_pictures_in_time(tmp_path):
    count = 20_000
    content = {
        "images": [{"id": one, "file_name": f"{one}.jpg", "width": 9, "height": 9} for one in range(count)],
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [
            {"id": one, "image_id": count - 1 - one, "category_id": 1, "bbox": [1, 1, 5, 5]}
            for one in range(count)
        ],
    }
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(content))
    started = time.process_time()
    questions = load("name-classes", {"images": tmp_path, "annotations": file}).questions
    assert time.process_time() - started < 30
    assert [one.picture for one in questions[:2]] == ["0", "1"]


def test_the_official_rule_reads_what_was_written_with_its_boxes(coco, reply):
    """A denied clause ends at the first comma, which may be a box's."""
    benchmark = load("lvis-refer", coco)
    one = next(one for one in benchmark.questions if one.id == "1 box")
    said = "It is not a person [1, 2, 3, 4] but a dog"
    score = benchmark.score([one], {one.id: reply(said, raw=True)})
    assert value(score, "accuracy, box", "official") == 1
    score = benchmark.score([one], {one.id: reply("It is not a person, but a dog [1, 2, 3, 4]", raw=True)})
    assert value(score, "accuracy, box", "official") == 1


def test_a_number_beyond_floats_in_ferrets_layout_is_named(tmp_path):
    row = {"id": 3, "image_path": "1.jpg", "width": 9, "height": 9, "name": "dog", "neg_class": "cat"}
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps(row | {"bbox_norm": [0, 0, 10**400, 1]}) + "\n")
    with pytest.raises(InputError, match="row 1 is not of Ferret's layout"):
        load("lvis-refer", {"images": tmp_path, "questions": file})
