from __future__ import annotations

from pathlib import Path

import pytest

from openferret.errors import InputError
from openferret.train.kit import NEEDED, Stage, kit_stages, run_stages


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for name in NEEDED:
        (folder / name).mkdir(parents=True)
    return folder


def test_missing_data_are_named_before_anything_runs(tmp_path):
    with pytest.raises(InputError, match="Annotations"):
        kit_stages(tmp_path, tmp_path / "out", 1, 1)


@pytest.mark.parametrize("minutes", [0, -1, float("nan")])
def test_minutes_must_be_some(data, minutes):
    with pytest.raises(InputError, match="minutes"):
        kit_stages(data, data, minutes, 1)
    with pytest.raises(InputError, match="minutes"):
        kit_stages(data, data, 1, 1, closer_minutes=minutes)


def test_an_adapter_to_go_on_from_reaches_both_long_stages(data, tmp_path):
    start = tmp_path / "adapter.safetensors"
    start.touch()
    stages = kit_stages(data, tmp_path, 1, 1, start)
    assert [one.name for one in stages if "--start" in one.arguments] == ["trunk", "language", "closer-look"]
    with pytest.raises(InputError, match="not a file"):
        kit_stages(data, tmp_path, 1, 1, tmp_path / "none")


def test_the_namer_is_taught_again_once_the_language_stage_moved_its_sampler(data, tmp_path):
    stages = {one.name: one for one in kit_stages(data, tmp_path, 1, 1)}
    names = ["trunk", "naming", "language", "naming-again", "closer-look", "export", "calibrate"]
    assert list(stages) == names
    assert "--language" not in stages["naming"].arguments
    assert "--language" in stages["naming-again"].arguments


def test_descriptions_are_rewarded_if_asked_for_and_what_that_wrote_is_exported(data, tmp_path):
    stages = {one.name: one.arguments for one in kit_stages(data, tmp_path, 1, 1, reward_minutes=2)}
    assert list(stages).index("naming-again") + 1 == list(stages).index("rewards")
    assert str(tmp_path / "language" / "state.pt") in stages["rewards"]
    assert str(tmp_path / "rewards" / "state.pt") in stages["export"]
    without = {one.name: one.arguments for one in kit_stages(data, tmp_path, 1, 1)}
    assert str(tmp_path / "language" / "state.pt") in without["export"]
    with pytest.raises(InputError, match="stage R"):
        kit_stages(data, tmp_path, 1, 1, reward_minutes=-1)


def test_the_language_stages_get_hints_of_namers_that_left_their_pictures_out(data, tmp_path):
    stages = kit_stages(data, tmp_path, 1, 1, reward_minutes=1)
    folds = str(tmp_path / "trunk" / "folds.pt")
    assert [one.name for one in stages if folds in one.arguments] == [
        *("naming", "language", "naming-again", "rewards")
    ]


def test_what_a_detector_saw_is_read_first_and_reaches_the_vision_side(data, tmp_path):
    seen = tmp_path / "detected.jsonl"
    seen.write_text('{"picture": "flickr30k:1", "class": "cup", "score": 0.5, "box": [0, 0, 1, 1]}\n')
    stages = kit_stages(data, tmp_path, 1, 1, detected=seen)
    assert [one.name for one in stages if str(seen) in one.arguments] == [
        *("trunk", "naming", "naming-again", "calibrate")
    ]
    seen.write_text("{}")
    with pytest.raises(InputError, match="line 1"):
        kit_stages(data, tmp_path, 1, 1, detected=seen)


def test_it_goes_on_where_it_stopped(tmp_path):
    stages = [Stage(name, name, ()) for name in ("first", "second", "third")]
    ran: list[str] = []

    def fails_once(stage: Stage) -> int:
        ran.append(stage.name)
        return int(ran == ["first", "second"])

    with pytest.raises(InputError, match="'second'"):
        run_stages(stages, tmp_path, lambda _: None, fails_once)
    run_stages(stages, tmp_path, lambda _: None, fails_once)
    assert ran == ["first", "second", "second", "third"]


def test_an_accelerator_is_looked_for_before_anything_runs(data, tmp_path):
    with pytest.raises(InputError, match="--device cpu always can"):
        kit_stages(data, tmp_path, 1, 1, device="cuda:99")
    with pytest.raises(InputError, match="0 or more"):
        kit_stages(data, tmp_path, 1, 1, workers=-1)


def test_the_training_stages_get_the_device_its_workers_and_larger_batches(data, tmp_path):
    stages = {one.name: one.arguments for one in kit_stages(data, tmp_path, 1, 1, device="meta", workers=3)}
    on = {name for name, arguments in stages.items() if "--device" in arguments}
    assert on == {"trunk", "naming", "language", "naming-again", "closer-look"}
    fed = {name for name, arguments in stages.items() if "--workers" in arguments}
    assert fed == {"trunk", "language", "closer-look"}
    assert {name for name, arguments in stages.items() if "--batch" in arguments} == {
        "language",
        "closer-look",
    }
