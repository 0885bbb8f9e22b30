"""Which dialogue goes where: all of them, once an epoch, whoever reads them."""

from dataclasses import replace

import numpy as np
import pytest

from openferret.train.batches.bucketing import Plan, split_pictures
from openferret.train.batches.gathering import gather


@pytest.fixture
def plan(making, build, tmp_path):
    def make(**changes):
        recipe = making.recipe(build, tmp_path, tmp_path, data__dialogues=2, **changes)
        gathered = gather((build,), tmp_path)
        learned, _ = split_pictures(gathered, recipe.data.validation)
        return Plan(gathered, recipe, 10, learned), gathered

    return make


def samples(passes):
    return [number for rows in passes for row in rows for number in row.samples]


def test_every_sample_comes_once_an_epoch(plan):
    made, _ = plan(batch__size=4)
    assert made.rows == 36  # 12 pictures, five dialogues in rows of two
    assert made.steps_per_epoch == 9
    for epoch in range(2):
        seen = [one for step in range(9) for one in samples(made.passes(9 * epoch + step, 0, 1))]
        assert sorted(seen) == list(range(60))
    assert samples(made.passes(0, 0, 1)) != samples(made.passes(9, 0, 1))


def test_a_share_of_the_rows_is_mirrored_and_the_order_stays(plan):
    (made, _), (plain, _) = plan(batch__size=4, data__mirror=0.5), plan(batch__size=4)
    rows = [row for step in range(18) for rows in made.passes(step, 0, 1) for row in rows]
    others = [row for step in range(18) for rows in plain.passes(step, 0, 1) for row in rows]
    assert [row.samples for row in rows] == [row.samples for row in others]
    assert 0.25 < np.mean([row.mirrored for row in rows]) < 0.75
    assert [row.mirrored for row in rows[:36]] != [row.mirrored for row in rows[36:]]
    assert not any(row.mirrored for row in others)
    assert not any(row.mirrored for rows in made.all_rows(0, 1) for row in rows)


@pytest.mark.parametrize("processes", [1, 2])
def test_processes_share_a_step_without_repeats(plan, processes):
    made, _ = plan(batch__size=4)
    alone = samples(made.passes(3, 0, 1))
    shared = [one for process in range(processes) for one in samples(made.passes(3, process, processes))]
    assert sorted(shared) == sorted(alone)
    assert len(set(shared)) == len(shared)


def test_a_row_is_of_one_picture_and_not_too_long(plan, making, build, tmp_path):
    made, gathered = plan()
    for step in range(made.steps_per_epoch):
        for rows in made.passes(step, 0, 1):
            for row in rows:
                files = {one.picture.file for one in gathered.samples(row.samples)}
                assert len(files) == 1
                assert len(row.samples) <= 2
    short = Plan(gathered, making.recipe(build, tmp_path, tmp_path, data__max_length=60), 20, range(12))
    assert all(
        len(row.samples) == 1 or gathered.sizes[list(row.samples)].sum() <= 40
        for step in range(short.steps_per_epoch)
        for rows in short.passes(step, 0, 1)
        for row in rows
    )


def test_rows_of_like_length_go_together(plan):
    def waste(made, gathered):
        lost = 0
        for step in range(made.steps_per_epoch):
            for rows in made.passes(step, 0, 1):
                lengths = [gathered.sizes[list(row.samples)].sum() for row in rows]
                lost += len(lengths) * max(lengths) - sum(lengths)
        return lost

    assert waste(*plan(batch__bucket=16)) < 0.5 * waste(*plan(batch__bucket=0))


def test_the_plan_follows_from_the_seed_alone(plan):
    one, other = plan()[0], plan()[0]
    assert [samples(one.passes(step, 0, 1)) for step in (7, 2)] == [
        samples(other.passes(step, 0, 1)) for step in (7, 2)
    ]
    assert samples(plan(seed=1)[0].passes(2, 0, 1)) != samples(one.passes(2, 0, 1))


def test_pictures_kept_back_are_the_same_ones_each_time(making, build, tmp_path):
    gathered = gather((build,), tmp_path)
    learned, kept_back = split_pictures(gathered, 0.3)
    assert set(learned) | set(kept_back) == set(range(12))
    assert not set(learned) & set(kept_back)
    assert kept_back
    more = split_pictures(gathered, 0.5)[1]
    assert set(kept_back) <= set(more)


def test_samples_are_gathered_by_picture_and_unchanged(making, build, tmp_path):
    gathered = gather((build,), tmp_path)
    assert gathered.pictures == 12
    found = [
        gathered.samples(range(gathered.first[picture], gathered.first[picture + 1])) for picture in range(12)
    ]
    assert all(len({one.picture.file for one in own}) == 1 for own in found)
    made = {one.id: one for own in found for one in own}
    assert made == {one.id: one for one in gathered.builds[0].samples()}
    again = gather((build,), tmp_path)
    assert again.folder == gathered.folder
    assert np.array_equal(again.sizes, gathered.sizes)


def test_builds_of_the_same_names_stay_apart(making, build, tmp_path):
    other = making.write_build(tmp_path / "other", pictures=3, each=2)
    gathered = gather((build, other), tmp_path)
    assert gathered.pictures == 15
    assert len(gathered.sizes) == 66


def test_masks_stay_compact_until_they_are_shown(making, build):
    from openferret.data.outlines import RunLengths

    mask = np.zeros((48, 64), bool)
    mask[5:40, 8:30] = True
    sample = replace(making.sample(1, 0), masks=(RunLengths.of(mask),))
    assert isinstance(sample.mask(0), RunLengths)
    assert len(sample.mask(0).counts) < 100
