import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openferret.data.building.leaks import LeakFilter
from openferret.data.building.pipeline import build
from openferret.data.building.recipe import load_recipe
from openferret.data.inspection.checking import find_problems
from openferret.data.inspection.stats import PARTS, as_text, count, part_of
from openferret.data.loading.dataset import Dataset
from openferret.errors import InputError

from .. import small_set


@pytest.fixture
def built(tmp_path):
    small_set.write_source(tmp_path / "source")
    recipe = small_set.write_recipe(tmp_path / "recipe.yaml", small_set.recipe_content(tmp_path / "source"))
    build(load_recipe(recipe), tmp_path / "out")
    return tmp_path / "out"


def problems(place, *arguments):
    return [problem.kind for problem in find_problems(Dataset.open(place), *arguments)]


def test_counts_are_those_of_the_rows_and_of_the_manifest(built):
    dataset = Dataset.open(built)
    found = count(dataset)
    samples = list(dataset.samples())
    assert sum(row["samples"] for row in found.rows) == len(samples) == dataset.manifest["samples"]
    assert sum(row["regions"] for row in found.rows) == sum(len(one.regions) for one in samples)
    assert sum(found.parts.values()) + found.other == len(samples)
    assert found.parts["hard negatives"] == sum(one.negative for one in samples) > 0
    stated = {
        (one["source"], one["task"]): (one["samples"], one["negative"]) for one in dataset.manifest["counts"]
    }
    assert stated == {(row["source"], row["task"]): (row["samples"], row["negative"]) for row in found.rows}


def test_the_table_has_the_papers_counts_beside_ours(built):
    text = as_text(Dataset.open(built), count(Dataset.open(built)))
    for part in PARTS:
        assert f"{part.published:,}" in text
    assert "all_instances" in text
    assert sum(part.published for part in PARTS) == 1_142_000


def test_parts():
    assert part_of("relationship", "visual_genome").published == 177_000
    assert part_of("reasoning", "samples").published == 34_000
    assert part_of("reasoning", "llava_instruct").published == 158_000
    assert part_of("question_answer", "visual_genome") is None


def test_a_sound_data_set_has_no_problems(built):
    assert problems(built, "open") == []


def test_what_was_changed_is_named(built):
    shard = sorted(built.glob("*.parquet"))[0]
    table = pq.read_table(shard)
    rows = table.to_pylist()
    rows[3]["turns"] = rows[3]["turns"][:1]
    rows[5]["regions"] = [{"kind": "box", "numbers": [9.0, 9, 2, 2], "stroke": None, "counts": ""}]
    rows[7]["id"] = rows[8]["id"]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), shard)
    found = list(find_problems(Dataset.open(built)))
    assert [one.kind for one in found] == ["changed file", "bad sample", "bad sample", "id stands twice"]
    assert "row 3" in found[1].place
    assert rows[5]["id"] in found[2].message


def test_missing_and_damaged_pictures_are_named(built, tmp_path):
    pictures = sorted((tmp_path / "source" / "pictures").iterdir())
    pictures[0].unlink()
    pictures[1].write_bytes(b"no")
    assert problems(built, "none") == []
    assert problems(built) == ["missing picture"]
    assert sorted(problems(built, "open")) == ["damaged picture", "damaged picture"]


def test_evaluation_pictures_are_found_afterwards(built):
    leaks = LeakFilter({"coco:4": "pope"})
    assert problems(built, "none", leaks) == ["evaluation picture"]


def test_a_damaged_or_missing_shard_is_one_problem(built):
    shard = sorted(built.glob("*.parquet"))[0]
    shard.write_bytes(b"PAR1")
    assert problems(built, "none")[0] == "damaged file"
    shard.unlink()
    assert problems(built, "none")[0] == "damaged file"
    with pytest.raises(InputError):
        count(Dataset.open(built))


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"format": 99})])
def test_a_manifest_that_is_none(built, content):
    (built / "manifest.json").write_text(content)
    with pytest.raises(InputError):
        Dataset.open(built)
    with pytest.raises(InputError, match="holds no data set"):
        Dataset.open(built.parent)


def test_a_picture_cannot_lead_out_of_its_folder(built):
    from dataclasses import replace

    dataset = Dataset.open(built)
    picture = next(dataset.samples()).picture
    for file in ("mine/../boxes.json", "other/1.jpg", "mine//etc/passwd"):
        with pytest.raises(InputError):
            dataset.picture_path(replace(picture, file=file))
