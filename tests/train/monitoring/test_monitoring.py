"""Who watches a run: log, dashboards, progress, guard, and questions to pictures kept back."""

import io
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from openferret.answer import Answer, LocatedBox, Mention
from openferret.errors import InputError
from openferret.regions import Box
from openferret.train.monitoring.asking import TaskMetrics
from openferret.train.monitoring.boards import TensorBoard, open_boards
from openferret.train.monitoring.choosing import callbacks_for
from openferret.train.monitoring.figures import step_figures
from openferret.train.monitoring.guard import NotANumber
from openferret.train.monitoring.lines import JsonLines, drop_later
from openferret.train.monitoring.panels import PanelPicture, draw_panel
from openferret.train.monitoring.progress import Pace, TrainingProgress
from openferret.train.recipes.recipe import MonitorRecipe
from openferret.train.running.callbacks import RunStart, StepReport
from openferret.train.running.loop import run_training


def report(step=1, loss=2.0, **changes):
    made = StepReport(
        step=step,
        loss=loss,
        losses={"language": loss},
        by_task={"ground": loss},
        rates={"language": 1e-4},
        gradient=0.5,
        tokens=1000,
        supervised=100,
        answers=10,
        padding=0.1,
        seconds=2.0,
        waited=0.2,
        memory=2_000_000_000,
        epoch=0.1,
        batches=(),
    )
    return replace(made, **changes)


@pytest.fixture
def begun(making, build, start, tmp_path):
    recipe = making.recipe(build, start, tmp_path / "run")
    return RunStart(recipe, 0, 10, 12, 60, {"language": 1_000_000}, 5_000_000, True, 0, 1)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_same_names_everywhere():
    figures = step_figures(report())
    assert figures["speed/tokens_per_second"] == 500
    assert figures["loss/language"] == figures["task/ground"] == 2.0
    assert figures["memory/gigabytes"] == 2


def test_a_log_that_goes_on_drops_what_will_be_done_again(begun):
    first = JsonLines()
    first.on_start(begun)
    for step in (1, 2, 3):
        first.on_step(report(step))
    first.on_metrics(3, {"validation/language": 1.5})
    first.on_failure(InputError("killed"))
    path = begun.recipe.out / "log.jsonl"
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    second = JsonLines()
    second.on_start(replace(begun, first_step=2))
    second.on_step(report(3, loss=math.nan))
    second.on_end(3, None)
    assert [(one["step"], one.get("loss")) for one in lines(path)] == [(1, 2.0), (2, 2.0), (3, None)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_is_told_once_and_the_log_is_closed(begun):
    callback = JsonLines()
    callback.on_start(begun)
    callback._stream.close()
    stream = callback._stream = Path("/dev/full").open("a")  # noqa: SIM115 - the callback closes it
    with pytest.raises(InputError, match="No space left") as told:
        callback.on_step(report(1))
    callback.on_failure(told.value)
    assert stream.closed


def test_lines_of_a_log_that_are_no_json_are_dropped(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\nnonsense\n[]\n{"step": 9}\n')
    drop_later(path, 5)
    assert path.read_text() == '{"step": 1}\n'


def test_other_processes_write_nothing(begun):
    callback = JsonLines()
    callback.on_start(replace(begun, main=False))
    callback.on_step(report())
    assert not begun.recipe.out.exists()


def test_a_log_that_cannot_be_written_is_named(begun):
    begun.recipe.out.parent.mkdir(exist_ok=True)
    begun.recipe.out.write_text("a file")
    with pytest.raises(InputError, match=r"log\.jsonl cannot be written"):
        JsonLines().on_start(begun)


def test_tensorboard_holds_the_figures_and_the_panel(begun):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    panels = begun.recipe.out / "panels"
    panels.mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(panels / "step-000001.png")
    board = TensorBoard(panels)
    board.on_start(begun)
    board.on_step(report(1))
    board.on_metrics(1, {"kept-back/R@1": 0.5})
    board.on_end(1, None)
    read = EventAccumulator(str(begun.recipe.out / "tensorboard")).Reload()
    assert read.Scalars("kept-back/R@1")[0].value == 0.5
    assert read.Scalars("loss")[0].step == 1
    assert read.Images("panels")[0].width == 8


def test_a_dashboard_that_is_not_installed_is_left_out_by_name(monkeypatch, capsys):
    monkeypatch.setattr("openferret.train.monitoring.boards.find_spec", lambda name: None)
    assert open_boards(("tensorboard", "trackio")) == ()
    said = capsys.readouterr().err
    assert "tensorboard is not installed" in said
    assert "openferret[trackio]" in said


def test_an_unknown_dashboard_is_refused():
    with pytest.raises(InputError, match="there is no dashboard 'wandb'"):
        open_boards(("wandb",))


def test_trackio_is_given_the_figures(begun, monkeypatch):
    class Library:
        logged, ended = [], 0

        def init(self, **settings):
            self.settings = settings
            return self

        def log(self, figures, step):
            self.logged.append((step, figures))

        def finish(self):
            self.ended += 1

    library = Library()
    monkeypatch.setitem(sys.modules, "trackio", library)
    monkeypatch.setattr("openferret.train.monitoring.boards.find_spec", lambda name: object())
    (board,) = open_boards(("trackio",))
    board.on_start(begun)
    board.on_step(report(3))
    board.on_end(3, None)
    assert library.settings == {"project": "small", "name": "run", "resume": "allow"}
    assert library.logged[0][0] == 3
    assert library.logged[0][1]["loss"] == 2.0
    assert library.ended == 1


def test_pace_tells_loss_speed_memory_and_time_left():
    pace = Pace(11)
    assert pace.words() == "starting"
    pace.add(report(1))
    assert pace.words() == "loss 2.000, 500 tokens/s, 2.0 GB, 0:00:20 left"


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_shown(begun, terminal):
    stream = io.StringIO()
    progress = TrainingProgress(
        Console(file=stream, force_terminal=terminal, width=140, no_color=True, highlight=False), every=0
    )
    progress.on_start(replace(begun, first_step=4))
    progress.on_step(report(5))
    progress.on_metrics(5, {"kept-back/R@1": 0.25})
    progress.on_checkpoint(5, begun.recipe.out)
    progress.on_end(5, None)
    said = stream.getvalue()
    for words in ("60 dialogues", "going on after step 4", "tokens/s", "2.0 GB", "kept-back/R@1 0.250"):
        assert words in said


@pytest.mark.parametrize("wrong", [{"loss": math.nan}, {"gradient": math.inf}])
def test_the_guard_names_what_is_wrong(begun, wrong):
    guard = NotANumber()
    guard.on_start(begun)
    guard.on_loss(report())
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is {next(iter(wrong.values()))}"):
        guard.on_loss(report(**wrong))


def test_a_run_stops_at_nan_with_its_batch_kept_and_its_weights_sound(making, build, start, tmp_path):
    class Breaking:
        name = "breaking"

        def prepare(self, rows):
            return {}

        def counts(self, batch):
            return {"breaking": 1.0}

        def losses(self, model, batch, seen):
            weight = model.model.projector.weight
            return {"breaking": weight.sum() * math.nan}

    recipe = making.recipe(build, start, tmp_path / "run")
    with pytest.raises(InputError, match="stopped before step 1 changed anything"):
        run_training(recipe, callbacks_for(recipe), (Breaking(),))
    (saved,) = (recipe.out / "stopped").glob("*.pt")
    batches = torch.load(saved, weights_only=True)
    assert batches[0]["ids"].dtype == torch.int64
    told = json.loads(saved.with_suffix(".json").read_text())
    assert told["samples"] == [one for batch in batches for row in batch["samples"] for one in row]


def test_a_run_is_watched_from_beginning_to_end(making, build, start, tmp_path):
    recipe = making.recipe(
        build, start, tmp_path / "run", data__validation=0.3, every__evaluate=2, monitor=MonitorRecipe((), 3)
    )
    run_training(recipe, callbacks_for(recipe))
    logged = lines(recipe.out / "log.jsonl")
    measured = [one["metrics"] for one in logged if "metrics" in one]
    assert len([one for one in logged if "loss" in one]) == 4
    assert [sorted(one) for one in measured] == [sorted(measured[0])] * 2
    assert {"kept-back/R@1", "kept-back/F1 of boxes", "validation/language"} <= set(measured[0])
    panels = sorted((recipe.out / "panels").iterdir())
    assert [one.name for one in panels] == ["step-000002.png", "step-000004.png"]
    with Image.open(panels[0]) as panel:
        assert panel.width > 480


def test_tasks_are_asked_while_training(making, build, start, tmp_path):
    images = build / "pictures"
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 64, "height": 48}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 4, 20, 20], "iscrowd": 0}],
    }
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps(content))
    tasks = {"ground-classes": {"images": str(images), "annotations": str(boxes), "pictures": 1}}
    recipe = making.recipe(
        build, start, tmp_path / "run", steps=1, every__evaluate=1, monitor=MonitorRecipe((), 0, tasks)
    )
    run_training(recipe, callbacks_for(recipe))
    (measured,) = [one["metrics"] for one in lines(recipe.out / "log.jsonl") if "metrics" in one]
    assert 0 <= measured["ground-classes/R@1"] <= 1


@pytest.mark.parametrize(
    ("tasks", "match"),
    [
        ({"nothing": {}}, "there is no task 'nothing'"),
        ({"ground-classes": {"imagez": "a"}}, "unexpected keyword argument 'imagez'"),
        ({"ground-classes": {"pictures": "many"}}, "must be a whole number"),
    ],
)
def test_tasks_that_cannot_be_asked_end_the_run_before_it_begins(begun, tasks, match):
    with pytest.raises(InputError, match=match):
        TaskMetrics(tasks).on_start(begun)


def test_a_panel_shows_every_picture_with_what_was_said_and_what_is_true():
    image = Image.new("RGB", (90, 60), "gray")
    box = LocatedBox.of(Box(10, 10, 50, 50), 90, 60, 0.5)
    answer = Answer("a dog", (Mention("a dog", (0, 5), (box,)),), 90, 60, "tiny", {})
    one = PanelPicture(image, answer, (Box(12, 8, 52, 48),), "a.png")
    panel = draw_panel([one] * 5, columns=2)
    assert panel.width == 2 * 480 + 3 * 12
    assert panel.height > 3 * 300
