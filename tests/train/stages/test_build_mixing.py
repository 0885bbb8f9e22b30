"""A built data set in stage L: which pictures it may bring, and how its dialogues are mixed in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openferret.data.building.reading import held_out
from openferret.data.files.atomic import write_json
from openferret.data.schema import PictureReference, Provenance, Sample, Turn
from openferret.data.storage.parquet import write_samples
from openferret.errors import InputError
from openferret.eval.leaks import perceptual_hash
from openferret.flickr30k import development_names
from openferret.regions import Box
from openferret.train.kit import NEEDED, kit_stages
from openferret.train.stages.build_leaks import allowed_pictures
from openferret.train.stages.build_mixing import BuildMixing, Dataset, mix_build
from openferret.train.stages.dialogues import Exchange
from openferret.train.stages.pictures import WHOLE, Crop, Named, Record
from openferret.train.stages.run_language import ask

TRAIN = [str(number) for number in range(1000, 1400)]
DEV = sorted(development_names(TRAIN))
OURS = [name for name in TRAIN if name not in DEV][:3]
VAL, COCO, MINI_VAL = "77", 6, 11
WIDTH, HEIGHT = 40, 20


def painted(seed: int) -> Image.Image:
    noise = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8))
    return noise.resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    assert held_out(str(MINI_VAL))
    assert not held_out(str(COCO))
    folder = tmp_path / "data"
    (folder / "flickr30k-images").mkdir(parents=True)
    (folder / "train.txt").write_text("\n".join(TRAIN))
    (folder / "val.txt").write_text(VAL)
    images = [{"id": number, "file_name": f"{number:012}.jpg"} for number in (COCO, MINI_VAL)]
    (folder / "instances_train2017.json").write_text(json.dumps({"images": images}))
    painted(1).save(folder / "flickr30k-images" / f"{VAL}.jpg", quality=95)
    return folder


def reference(source: str, number: str | int, fingerprint: str = "") -> PictureReference:
    return PictureReference(
        f"{source}/{number}.png", WIDTH, HEIGHT, source, str(number), fingerprint=fingerprint
    )


def sample(picture: PictureReference, name: str, negative: bool = False) -> Sample:
    texts = ("Is there a bus?", "No.") if negative else ("What is <region:0>?", f"<phrase>{name} <box:0>.")
    turns = (Turn("user", texts[0]), Turn("assistant", texts[1]))
    regions = () if negative else (Box(0, 0, 20, 10),)
    return Sample(
        f"{picture.file}:{name}", picture, turns, regions, (), Provenance("mine"), negative, "object"
    )


def build_of(folder: Path, samples: list[Sample]) -> Path:
    """What `openferret data build` leaves, without the build."""
    for one in samples:
        assert one.picture is not None
        path = folder / "pictures" / one.picture.file.partition("/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        painted(int(one.picture.id)).save(path)
    write_samples(folder / "samples-00000.parquet", samples)
    sources = {one.picture.source: {"pictures": str(folder / "pictures")} for one in samples if one.picture}
    manifest = {
        "format": 1,
        "samples": len(samples),
        "sha256": "0" * 64,
        "shards": [{"file": "samples-00000.parquet", "samples": len(samples)}],
        "picture_files": [],
        "sources": sources,
    }
    write_json(folder / "manifest.json", manifest)
    return folder


def records() -> list[Record]:
    named = (Named("a dog", "dog", ((0.0, 0.0, 0.5, 0.5),), False),)
    return [
        Record(row, named, frozenset({"dog"}), False, (), f"flickr30k:{name}")
        for row, name in enumerate(OURS)
    ]


STORE = np.zeros((3, 224, 224, 3), np.uint8)


def mixing(tmp_path: Path, data: Path, samples: list[Sample], share: float = 0.5) -> BuildMixing:
    return mix_build(build_of(tmp_path / "build", samples), data, tmp_path / "out", STORE, records(), share)


def own(count: int) -> list[Exchange]:
    return [Exchange("refer", f"question {number}", "a dog") for number in range(count)]


def test_dialogues_take_the_place_of_as_many_of_a_pictures_own(tmp_path, data):
    picture = reference("flickr30k", OURS[1])
    mixed = mixing(tmp_path, data, [sample(picture, f"thing {number}") for number in range(9)])
    generator = np.random.default_rng(0)
    one = records()[1]
    found = mixed.mix(one, WHOLE, own(10), 8, generator)
    assert len(found) == 10
    assert sum(exchange.task == "object" for exchange in found) == 5
    assert len({exchange.answer for exchange in found if exchange.task == "object"}) == 5
    assert len({exchange.question for exchange in found if exchange.task == "refer"}) == 5
    assert mixed.mix(records()[0], WHOLE, own(4), 8, generator) == own(4)
    again = mixed.mix(one, WHOLE, own(10), 8, np.random.default_rng(0))
    assert [exchange.answer for exchange in again] == [exchange.answer for exchange in found]


def test_what_a_crop_cuts_off_leaves_the_pictures_own_questions(tmp_path, data):
    mixed = mixing(tmp_path, data, [sample(reference("flickr30k", OURS[0]), "a cup")])
    right = Crop(0.5, 0.0, 1.0, 1.0, False)
    assert mixed.mix(records()[0], right, own(4), 8, np.random.default_rng(0)) == own(4)
    mirrored = Crop(0.0, 0.0, 1.0, 1.0, True)
    (new,) = (
        one for one in mixed.mix(records()[0], mirrored, own(4), 8, np.random.default_rng(0)) if one.regions
    )
    assert new.answer == "<phrase>a cup<box><loc_500><loc_0><loc_999><loc_500>."


def test_pictures_that_only_the_build_has_are_shown_from_a_store_of_their_own(tmp_path, data):
    mine = reference("mine", 5)
    mixed = mixing(tmp_path, data, [sample(mine, "a cup"), sample(reference("flickr30k", OURS[0]), "a cup")])
    (alone,) = mixed.alone
    assert (alone.row, alone.name, alone.named) == (3, "mine:5", ())
    expected = np.asarray(painted(5).resize((224, 224)))
    np.testing.assert_array_equal(mixed.store[3], expected)
    assert mixed.store[0].sum() == 0
    for seed in range(6):
        _, asked = ask(alone, records(), None, mixed, np.random.default_rng(seed))
        assert [one.answer.partition("<box>")[0] for one in asked] == ["<phrase>a cup"]
    assert "1 of 3 pictures and 1 others" in mixed.summary(records())


def test_dev_pictures_are_left_out_and_said(tmp_path, data):
    kept_back = reference("flickr30k", DEV[0])
    mixed = mixing(
        tmp_path, data, [sample(kept_back, "a cup"), sample(reference("flickr30k", OURS[0]), "a cup")]
    )
    assert mixed.kept_back == 1
    assert not mixed.alone
    assert set(mixed.pictures) == {0}


@pytest.mark.parametrize(
    ("picture", "told"),
    [
        (reference("flickr30k", VAL), "flickr30k val, by id"),
        (reference("coco", MINI_VAL), "coco mini-val, by id"),
        (reference("mine", f"{MINI_VAL:012}"), "coco mini-val, by id"),
        (
            reference("mine", 1, f"{perceptual_hash(painted(1).resize((80, 60))):016x}"),
            "flickr30k val, by looks",
        ),
    ],
)
def test_a_build_with_pictures_that_kit_is_measured_on_is_refused(tmp_path, data, picture, told):
    if picture.source == "mine" and picture.id != "1":
        picture = PictureReference(f"mine/{picture.id}.jpg", WIDTH, HEIGHT, "mine", picture.id)
    place = build_of(tmp_path / "build", [sample(picture, "a cup"), sample(reference("mine", 5), "a cup")])
    with pytest.raises(InputError, match=f"holds 1 pictures that Kit is measured on.*{told}"):
        mix_build(place, data, tmp_path / "out", STORE, records())
    assert not (tmp_path / "out").exists()


def test_the_whole_training_refuses_it_before_anything_runs(tmp_path, data):
    for name in NEEDED:
        (data / name).mkdir(exist_ok=True) if "." not in name else None
    sound = build_of(tmp_path / "sound", [sample(reference("mine", 5), "a cup")])
    stages = {one.name: one for one in kit_stages(data, tmp_path / "out", 1, 1, build=sound)}
    assert [name for name, one in stages.items() if str(sound) in one.arguments] == ["language"]
    leaky = build_of(tmp_path / "leaky", [sample(reference("flickr30k", VAL), "a cup")])
    with pytest.raises(InputError, match="flickr30k val"):
        kit_stages(data, tmp_path / "out", 1, 1, build=leaky)
    with pytest.raises(InputError, match="manifest"):
        kit_stages(data, tmp_path / "out", 1, 1, build=tmp_path)


def test_every_picture_of_a_build_is_looked_at_once(tmp_path, data):
    pictures = [reference("mine", number) for number in (5, 6, 5, 9)]
    place = build_of(
        tmp_path / "build", [sample(one, f"thing {place}") for place, one in enumerate(pictures)]
    )
    assert [one.id for one in allowed_pictures(Dataset.open(place), data).pictures] == ["5", "6", "9"]
