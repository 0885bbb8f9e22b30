import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from openferret.data.building import reading
from openferret.data.building.pipeline import build
from openferret.data.building.recipe import load_recipe
from openferret.data.inspection.checking import find_problems
from openferret.data.loading.dataset import Dataset
from openferret.data.storage.parquet import write_samples
from openferret.errors import InputError

from .. import small_set


@pytest.fixture
def recipe(tmp_path):
    """A recipe of a small source; `source` and other keys change it, `broken` breaks the source."""

    def make(broken=(), count=12, **changes):
        small_set.write_source(tmp_path / "source", count, broken)
        content = small_set.recipe_content(tmp_path / "source", **changes)
        return load_recipe(small_set.write_recipe(tmp_path / "recipe.yaml", content))

    return make


def rows(place):
    return [sample.to_dict() for sample in Dataset.open(place).samples()]


def test_the_rows_depend_on_neither_workers_nor_chunks(recipe, tmp_path, monkeypatch):
    small = recipe()
    many = build(small, tmp_path / "many", workers=2)
    monkeypatch.setattr(reading, "CHUNK", 5)
    one = build(small, tmp_path / "one")
    assert many["sha256"] == one["sha256"]
    assert many["counts"] == one["counts"]
    assert rows(tmp_path / "many") == rows(tmp_path / "one")
    assert len({row["id"] for row in rows(tmp_path / "one")}) == one["samples"] > 50
    assert [shard["samples"] for shard in one["shards"][:-1]] == [50] * (len(one["shards"]) - 1)
    assert not (tmp_path / "one" / ".build").exists()


def test_another_seed_gives_another_order(recipe, tmp_path):
    first = build(recipe(), tmp_path / "a")
    second = build(recipe(seed=1), tmp_path / "b")
    assert first["sha256"] != second["sha256"]


def test_a_build_that_was_stopped_goes_on(recipe, tmp_path, monkeypatch):
    small = recipe()
    monkeypatch.setattr(reading, "CHUNK", 3)
    whole = build(small, tmp_path / "whole")
    done = []

    def stop_after_two(step, number, total):
        done.append(step)
        if done.count("writing") == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(small, tmp_path / "out", progress=stop_after_two)
    kept = sorted((tmp_path / "out" / ".build" / "samples" / "mine").glob("*.arrow"))
    assert len(kept) == 2
    times = [file.stat().st_mtime_ns for file in kept]
    with pytest.raises(InputError, match="unfinished"):
        Dataset.open(tmp_path / "out")
    looked = []

    def look(*_):
        looked.extend(file.stat().st_mtime_ns for file in kept if file.exists())

    again = build(small, tmp_path / "out", progress=look)
    assert set(looked) == set(times)
    assert again["sha256"] == whole["sha256"]
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")


def test_a_finished_data_set_is_left_alone(recipe, tmp_path):
    small = recipe()
    first = build(small, tmp_path / "out")
    steps = []
    assert build(small, tmp_path / "out", progress=lambda *step: steps.append(step)) == first
    assert steps == []
    with pytest.raises(InputError, match="another recipe"):
        build(recipe(seed=3), tmp_path / "out")


def test_a_folder_that_is_not_ours_is_not_written_to(recipe, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("dear")
    with pytest.raises(InputError, match="not empty"):
        build(recipe(), tmp_path / "out")


def test_unfinished_work_of_other_sources_is_refused(recipe, tmp_path, monkeypatch):
    small = recipe()

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(small, tmp_path / "out", progress=stop)
    small_set.write_source(tmp_path / "source", 13)
    with pytest.raises(InputError, match="sources have changed"):
        build(small, tmp_path / "out")


def test_work_that_was_begun_with_another_list_is_refused(recipe, tmp_path):
    listed = tmp_path / "val.txt"
    listed.write_text("7\n")
    leaks = {"sets": {"val": {"of": "coco_json", "names": str(listed)}}}

    def stop(step, *_):
        if step == "writing":
            raise KeyboardInterrupt

    small = recipe(leaks=leaks)
    with pytest.raises(KeyboardInterrupt):
        build(small, tmp_path / "out", progress=stop)
    listed.write_text("7\n8\n")
    with pytest.raises(InputError, match="unfinished build of another recipe"):
        build(small, tmp_path / "out")


def test_a_finished_data_set_of_what_has_changed_since_is_not_taken_for_the_new_one(recipe, tmp_path):
    phrasings = tmp_path / "words.yaml"
    phrasings.write_text("object: {ask: ['What is {region}?'], answer: ['{name}.']}")
    small = recipe(templates=str(phrasings))
    build(small, tmp_path / "out")
    phrasings.write_text("object: {ask: ['And what is {region}?'], answer: ['{name}.']}")
    with pytest.raises(InputError, match="before templates changed"):
        build(small, tmp_path / "out")
    small_set.write_source(tmp_path / "source", 13)
    with pytest.raises(InputError, match=r"templates, sources\.mine changed"):
        build(small, tmp_path / "out")


def test_the_result_may_lie_below_its_source(recipe, tmp_path):
    recipe()
    lists = tmp_path / "source" / "lists"
    lists.mkdir()
    (tmp_path / "source" / "boxes.json").rename(lists / "boxes.json")
    small = recipe(source={"root": str(lists)})
    out, steps = lists / "out", []

    def stop(step, *_):
        steps.append(step)
        if step == "joining":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(small, out, progress=stop)
    built = build(small, out)
    assert built["sources"]["mine"]["annotations"]["files"] == 1
    assert build(small, out) == built


def test_masks_are_annotations(making, tmp_path):
    making.write_picture(tmp_path / "set/images/a.jpg")
    making.write_picture(tmp_path / "set/masks/a/dog.png")
    made = small_set.recipe_of(tmp_path, {"kind": "mask_folder", "root": str(tmp_path / "set")})
    assert build(made, tmp_path / "out")["sources"]["mine"]["annotations"]["files"] == 1
    making.write_picture(tmp_path / "set/masks/a/cat.png")
    with pytest.raises(InputError, match=r"sources\.mine changed"):
        build(made, tmp_path / "out")


def test_the_licence_of_ones_own_boxes_goes_into_the_samples(recipe, tmp_path):
    build(recipe(source={"licence": "CC0"}), tmp_path / "out")
    assert {one.provenance.licence for one in Dataset.open(tmp_path / "out").samples()} == {"CC0"}


def test_a_full_disk_loses_nothing(recipe, tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    small = recipe()
    whole = build(small, tmp_path / "whole")
    write = pq.write_table

    def fails_on_second(table, place, **options):
        write(table, place, **options)
        if "00001" in str(place):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", fails_on_second)
    with pytest.raises(InputError, match="disk is full"):
        build(small, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.partial"))
    assert not (tmp_path / "out" / "manifest.json").exists()
    monkeypatch.setattr(pq, "write_table", write)
    assert build(small, tmp_path / "out")["sha256"] == whole["sha256"]


def test_weights_caps_and_limits(recipe, tmp_path):
    tasks = {"object": {"weight": 2}, "all_instances": {"cap": 7}, "presence": {"weight": 0.5}}
    everything = {one["task"]: one for one in build(recipe(), tmp_path / "all")["counts"]}
    small = build(recipe(source={"tasks": tasks}), tmp_path / "some")
    counts = {one["task"]: one["samples"] for one in small["counts"]}
    assert set(counts) == set(tasks)
    assert counts["object"] == 2 * everything["object"]["samples"]
    assert counts["all_instances"] == 7
    assert counts["presence"] == round(everything["presence"]["samples"] / 2)
    ids = [row["id"] for row in rows(tmp_path / "some")]
    assert len(set(ids)) == len(ids)
    assert sum(name.endswith("#2") for name in ids) == everything["object"]["samples"]


def test_a_cap_of_a_source_and_of_a_picture(recipe, tmp_path):
    source = {"cap": 9, "tasks": {"object": {"each": 1}, "all_instances": {"each": 1}}}
    assert build(recipe(source=source), tmp_path / "a")["samples"] == 9
    each = {"tasks": {"object": {"each": 1}}}
    built = build(recipe(source=each), tmp_path / "b")
    assert built["samples"] == built["pictures"] == 12


@pytest.mark.parametrize(
    "broken", [["missing"], ["damaged"], ["boxes"], ["cut"], ["missing", "damaged", "boxes"]]
)
def test_bad_input_is_named_counted_and_skipped(recipe, tmp_path, broken):
    built = build(recipe(broken), tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "problems.jsonl").read_text().splitlines()]
    assert lines
    assert sum(built["problems"]["mine"].values()) == len(lines)
    assert all(line["place"] and line["message"] for line in lines)
    kinds = " ".join(built["problems"]["mine"])
    for word in broken:
        assert {"missing": "missing", "damaged": "damaged", "boxes": "outside", "cut": "damaged file"}[
            word
        ] in kinds
    assert built["samples"] > 0


@pytest.mark.parametrize("change", [{"broken": ["cut"]}, {"source": {"options": {}}}])
def test_nothing_is_called_absent_or_all_where_annotations_may_be_missing(recipe, tmp_path, change):
    build(recipe(**change), tmp_path / "out")
    samples = [*Dataset.open(tmp_path / "out").samples()]
    assert any(one.task == "object" for one in samples)
    assert not [one.id for one in samples if one.negative or one.task == "all_instances"]


@pytest.mark.parametrize("broken", [["missing"], ["damaged"], ["boxes"], ["cut"]])
def test_bad_input_ends_the_build_if_the_recipe_says_so(recipe, tmp_path, broken):
    with pytest.raises(InputError):
        build(recipe(broken, bad_records="refuse"), tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_evaluation_pictures_are_kept_out_by_id_and_by_looks(recipe, tmp_path):
    (tmp_path / "pope.json").write_text('{"image": "COCO_val2014_000000000003.jpg"}\n{"image": "7.jpg"}\n')
    (tmp_path / "val").mkdir()
    small_set.scene(5).resize((100, 90)).save(tmp_path / "val" / "renamed.jpg", quality=70)
    sets = {
        "pope": {"of": "coco", "names": str(tmp_path / "pope.json")},
        "photos": {"of": "elsewhere", "pictures": str(tmp_path / "val")},
    }
    built = build(recipe(leaks={"sets": sets}), tmp_path / "out")
    assert built["leaks"] == {"pope": {"id": 2}, "photos": {"looks": 1}}
    used = {int(row["picture"]["id"]) for row in rows(tmp_path / "out")}
    assert used == set(range(1, 13)) - {3, 5, 7}
    assert sum(built["problems"]["mine"].values()) == 3


def test_hashes_may_be_given_for_pictures_that_are_not_opened(recipe, tmp_path):
    from openferret.eval.leaks import perceptual_hash

    lines = [
        f"{number:012d}.jpg\t{perceptual_hash(small_set.scene(number)):016x}\n" for number in range(1, 13)
    ]
    (tmp_path / "hashes.tsv").write_text("".join(lines))
    (tmp_path / "val").mkdir()
    small_set.scene(5).save(tmp_path / "val" / "renamed.png")
    built = build(
        recipe(
            check_pictures="none",
            source={"hashes": str(tmp_path / "hashes.tsv")},
            leaks={"sets": {"photos": {"of": "elsewhere", "pictures": str(tmp_path / "val")}}},
        ),
        tmp_path / "out",
    )
    assert built["leaks"] == {"photos": {"looks": 1}}
    assert built["pictures"] == 11


def test_a_split_leaves_out_what_it_says(recipe, tmp_path):
    from openferret.train.stages.pictures import held_out

    (tmp_path / "without.txt").write_text("000000000002.jpg\n4\n")
    split = {"without": str(tmp_path / "without.txt"), "held_out": True}
    build(recipe(source={"split": split}), tmp_path / "out")
    used = {int(row["picture"]["id"]) for row in rows(tmp_path / "out")}
    assert used == {number for number in range(1, 13) if number not in (2, 4) and not held_out(number)}


def test_pictures_in_tar_files(recipe, tmp_path):
    packed = build(recipe(pictures="tar"), tmp_path / "a")
    build(recipe(pictures="tar"), tmp_path / "b")
    assert packed["picture_files"] == ["pictures-00000.tar"]
    assert (tmp_path / "a" / "pictures-00000.tar").read_bytes() == (
        tmp_path / "b" / "pictures-00000.tar"
    ).read_bytes()
    opened = Dataset.open(tmp_path / "a")
    assert not list(find_problems(opened))
    sample = next(opened.samples())
    original = tmp_path / "source" / "pictures" / sample.picture.file.removeprefix("mine/")
    with original.open("rb") as file:
        from PIL import Image

        assert opened.load_picture(sample.picture).tobytes() == Image.open(file).tobytes()


def test_finished_samples_are_a_source_and_their_ids_stand_once(recipe, tmp_path):
    build(recipe(), tmp_path / "first")
    samples = list(Dataset.open(tmp_path / "first").samples())
    pictures = [one.picture.file for one in samples]
    assert all(file.startswith("mine/") for file in pictures)
    (tmp_path / "mine").symlink_to(tmp_path / "source" / "pictures")
    write_samples(tmp_path / "ready" / "0.parquet", [*samples, samples[3]])
    source = {
        "kind": "samples",
        "root": str(tmp_path / "ready"),
        "pictures": str(tmp_path / "first"),
        "options": {},
    }
    (tmp_path / "first" / "mine").symlink_to(tmp_path / "source" / "pictures")
    built = build(recipe(source=source, check_pictures="none"), tmp_path / "second")
    assert built["samples"] == len(samples)
    assert built["problems"] == {"mine": {"id stands twice": 1}}
    (line,) = (tmp_path / "second" / "problems.jsonl").read_text().splitlines()
    assert samples[3].id in line


def test_finished_samples_are_taken_by_task_too(recipe, tmp_path):
    build(recipe(check_pictures="none"), tmp_path / "first")
    samples = list(Dataset.open(tmp_path / "first").samples())
    source = {"kind": "samples", "root": str(tmp_path / "first"), "options": {}}
    tasks = {"object": {"each": 1}, "presence": 1}
    built = build(recipe(source=source | {"tasks": tasks}, check_pictures="none"), tmp_path / "second")
    counts = {one["task"]: one["samples"] for one in built["counts"]}
    asked = [one for one in samples if one.task == "presence"]
    assert counts == {"object": 12, "presence": len(asked)}
    left = sum(one.task not in tasks for one in samples)
    assert built["sources"]["mine"]["left_out"] == {"task": left}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"kind": "cocoa"}, "sources.mine.kind 'cocoa' is not a source; did you mean 'coco'"),
        ({"options": {"exhaustve": True}}, "did you mean 'exhaustive'"),
        ({"tasks": ["objects"]}, "sources.mine.tasks"),
        ({"root": "nowhere.json"}, "does not exist"),
    ],
)
def test_what_a_source_cannot_be_is_said_before_anything_is_read(recipe, tmp_path, source, said):
    with pytest.raises(InputError) as refused:
        build(recipe(source=source), tmp_path / "out")
    assert said in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_engines_and_workers(recipe, tmp_path):
    for options in ({"workers": 0}, {"engine": "spark"}):
        with pytest.raises(InputError):
            build(recipe(), tmp_path / "out", **options)


@pytest.mark.slow
def test_a_build_that_is_killed_again_and_again_comes_to_the_same_end(recipe, tmp_path):
    small = recipe(count=40)
    whole = build(small, tmp_path / "whole")
    code = (
        "import sys; from pathlib import Path; from openferret.data.building import reading; reading.CHUNK = 2\n"
        "from openferret.data.building.pipeline import build; from openferret.data.building.recipe import load_recipe\n"
        "build(load_recipe(sys.argv[1]), Path(sys.argv[2]))"
    )
    out, kills = tmp_path / "out", 0
    for wait in (0.5, 1.0, 2.0, 3.0):
        child = subprocess.Popen([sys.executable, "-c", code, tmp_path / "recipe.yaml", out])
        while not (out / ".build").exists() and child.poll() is None:
            time.sleep(0.02)
        time.sleep(wait / 4)
        if child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.wait()
    assert kills
    assert build(small, out)["sha256"] == whole["sha256"]
    assert rows(out) == rows(tmp_path / "whole")
