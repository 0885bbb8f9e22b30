import json
import pickle

import pytest

from openferret.errors import InputError
from openferret.eval import runner
from openferret.eval.tasks import load


def figures(score, rule):
    return {one.name: one.estimate.value for one in score.figures if one.rule == rule}


def test_official_is_the_references(shared, tmp_path):
    """The reference writes its three figures sorted; here each has its name."""
    folder = shared / "reference" / "parity" / "eval"
    benchmark = load("refexp", {"images": tmp_path, "annotations": folder / "rec_gt.json"})
    results = runner.score_file(
        benchmark, runner.plan(benchmark, look=False), folder / "rec_pred" / "0_of_1.jsonl"
    )
    expected = json.loads((folder / "rec_result.json").read_text())
    for dataset, values in expected.items():
        ours = [
            one["value"]
            for one in results["figures"]
            if one["rule"] == "official" and one["name"].endswith(f", {dataset}")
        ]
        assert sorted(ours) == pytest.approx(values, abs=1e-6)
    first = {one["name"]: one["value"] for one in results["figures"]}
    assert first["Acc@0.5, refcoco+"] == 1
    assert first["Acc@0.5 of the mean box, refcoco+"] == 0
    assert first["Acc@0.5 of the best box, refcocog"] == 0.5
    assert first["unparsed, refcocog"] == 0.5


@pytest.fixture
def mdetr(tmp_path):
    content = {
        "images": [
            {
                "id": 5,
                "file_name": "COCO_train2014_1.jpg",
                "width": 200,
                "height": 100,
                "caption": "a man, left",
                "dataset_name": "refcoco",
            },
            {
                "id": 6,
                "file_name": "COCO_train2014_1.jpg",
                "width": 200,
                "height": 100,
                "caption": "flat",
                "dataset_name": "refcoco",
            },
        ],
        "annotations": [
            {"image_id": 5, "bbox": [0, 0, 100, 100]},
            {"image_id": 6, "bbox": [0, 0, 0, 100]},
        ],
    }
    file = tmp_path / "finetune_refcoco_val.json"
    file.write_text(json.dumps(content))
    return file


def test_questions_are_the_expressions_without_commas(mdetr, tmp_path):
    benchmark = load("refexp", {"images": tmp_path, "annotations": mdetr})
    (question,) = benchmark.questions
    assert question.phrases == ("a man left",)
    assert "1 expressions whose box has no area" in benchmark.notes[0]


def test_strict_by_hand(mdetr, tmp_path, reply):
    benchmark = load("refexp", {"images": tmp_path, "annotations": mdetr})
    score = benchmark.score(benchmark.questions, {"5": reply("it [0, 0, 999, 999] [0, 0, 499, 999]")})
    strict = figures(score, "strict")
    assert strict["Acc@0.5"] == 0
    assert strict["Acc@0.25"] == 1
    assert strict["mean IoU"] == pytest.approx(0.5, abs=0.01)
    assert strict["any box, Acc@0.5"] == 1
    assert strict["unparsed"] == 0


def test_one_bad_box_drops_the_whole_answer_officially_and_only_itself_strictly(mdetr, tmp_path, reply):
    benchmark = load("refexp", {"images": tmp_path, "annotations": mdetr})
    said = reply("a man [0, 0, 499, 999] or [a, b]", raw=True)
    score = benchmark.score(benchmark.questions, {"5": said})
    assert figures(score, "official")["Acc@0.5"] == 0
    assert figures(score, "strict")["Acc@0.5"] == 1


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda content: content["annotations"].append(content["annotations"][0]), "two boxes"),
        (lambda content: content["images"].append(content["images"][0]), "stand twice"),
        (lambda content: content["annotations"].pop(0), "has no box"),
        (lambda content: content["annotations"][0].update(bbox=[float("nan"), 0, 1, 1]), "not finite"),
        (lambda content: content["images"][0].update(width=0), "layout"),
        (lambda content: content.pop("annotations"), "layout"),
    ],
)
def test_malformed_files_are_named(mdetr, tmp_path, change, match):
    content = json.loads(mdetr.read_text())
    change(content)
    mdetr.write_text(json.dumps(content))
    with pytest.raises(InputError, match=match):
        load("refexp", {"images": tmp_path, "annotations": mdetr})


@pytest.fixture
def original(tmp_path):
    """The layout of the original release: refs(*).p and instances.json."""
    refs = [
        {
            "ref_id": 1,
            "ann_id": 11,
            "image_id": 3,
            "file_name": "COCO_train2014_3_11.jpg",
            "split": "val",
            "sentences": [{"sent_id": 100, "sent": "left dog"}, {"sent_id": 101, "sent": "the dog, left"}],
        },
        {
            "ref_id": 2,
            "ann_id": 12,
            "image_id": 3,
            "file_name": "x",
            "split": "testA",
            "sentences": [{"sent_id": 102, "sent": "cat"}],
        },
    ]
    instances = {
        "images": [{"id": 3, "file_name": "COCO_train2014_000000000003.jpg", "width": 200, "height": 100}],
        "annotations": [{"id": 11, "bbox": [0, 0, 100, 100]}, {"id": 12, "bbox": [100, 0, 100, 100]}],
    }
    folder = tmp_path / "refcoco"
    folder.mkdir()
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    (folder / "instances.json").write_text(json.dumps(instances))
    return {"images": tmp_path, "refs": folder / "refs(unc).p", "instances": folder / "instances.json"}


def test_the_original_release_is_read(original, reply):
    benchmark = load("refexp", {**original, "split": "val"})
    assert [one.id for one in benchmark.questions] == ["100", "101"]
    assert benchmark.pictures["COCO_train2014_000000000003.jpg"].name == "COCO_train2014_000000000003.jpg"
    score = benchmark.score(benchmark.questions, {"100": reply("dog [0, 0, 499, 999]")})
    assert figures(score, "strict")["Acc@0.5"] == 0.5


def test_splits_and_sources_are_checked(original, tmp_path):
    with pytest.raises(InputError, match="no split 'test': give one of testA, val"):
        load("refexp", {**original, "split": "test"})
    with pytest.raises(InputError, match="either"):
        load("refexp", {"images": tmp_path})
    original["refs"].write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match="layout"):
        load("refexp", {**original, "split": "val"})


def test_official_overlap_of_exactly_half_is_right(tmp_path, reply):
    """In fractions of 427 x 640 the same boxes overlap by 0.49999...: the reference counts whole pixels."""
    images, annotations, replies = [], [], {}
    for key in range(200):
        x1, y1, x2, y2 = 3 * key, 2 * key, 3 * key + 300, 2 * key + 500
        sides = zip((x1, y1, x2, y2), (427, 640, 427, 640), strict=True)
        left, top, right, low = (int(v * s / 1000) for v, s in sides)
        images.append({"id": key, "file_name": "1.jpg", "width": 427, "height": 640, "caption": "it"})
        annotations.append({"image_id": key, "bbox": [left, top, 2 * (right - left), low - top]})
        replies[str(key)] = reply(f"it [{x1}, {y1}, {x2}, {y2}]")
    file = tmp_path / "finetune_refcoco_val.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    benchmark = load("refexp", {"images": tmp_path, "annotations": file})
    official = figures(benchmark.score(benchmark.questions, replies), "official")
    assert set(official.values()) == {1.0}


def test_a_number_of_400_digits_is_a_box_far_outside(mdetr, tmp_path, reply):
    benchmark = load("refexp", {"images": tmp_path, "annotations": mdetr})
    far = "9" * 400
    score = benchmark.score(benchmark.questions, {"5": reply(f"it [0, -{far}, {far}, 9], [0, 0, 500, 1000]")})
    official = figures(score, "official")
    assert official["Acc@0.5"] == 0
    assert official["Acc@0.5 of the best box"] == 1
