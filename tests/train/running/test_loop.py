"""The loop: what it learns, that it goes on exactly where it was, and what it says when it cannot."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from openferret.errors import InputError
from openferret.train.running.callbacks import Callback
from openferret.train.running.loop import run_training

GOLDEN = Path(__file__).parent.with_name("golden_losses.json")


class Recorder(Callback):
    """Keeps what was told; may stop the run."""

    def __init__(self, stop_at=0):
        self.reports, self.starts, self.saved, self.metrics, self.failures, self.ends = [], [], [], [], [], []
        self._stop_at = stop_at

    def on_start(self, run):
        self.starts.append(run)

    def on_step(self, report):
        self.reports.append(report)
        if report.step == self._stop_at:
            raise InputError("stopped by a test")

    def on_checkpoint(self, step, folder):
        self.saved.append((step, folder))

    def on_metrics(self, step, metrics):
        self.metrics.append((step, metrics))

    def on_failure(self, error):
        self.failures.append(error)

    def on_end(self, step, folder):
        self.ends.append((step, folder))

    @property
    def losses(self):
        return {report.step: report.loss for report in self.reports}

    @property
    def order(self):
        return {report.step: [one.samples for one in report.batches] for report in self.reports}


def train(recipe, stop_at=0, **how):
    recorder = Recorder(stop_at)
    try:
        run_training(recipe, (recorder,), **how)
    except InputError as error:
        if "stopped by a test" not in str(error):
            raise
    return recorder


def test_a_run_learns_and_leaves_a_model_that_opens(making, build, start, tmp_path):
    from openferret.predictor import Ferret

    recipe = making.recipe(build, start, tmp_path, steps=12, optimizer__rates={"language": 3e-3})
    found = train(recipe)
    assert found.losses[12] < 0.7 * found.losses[1]
    assert [step for step, _ in found.saved] == [2, 4, 6, 8, 10, 12]
    assert found.ends == [(12, tmp_path / "model")]
    assert {"object", "ground"} & set(found.reports[0].by_task)
    answer = Ferret.load(tmp_path / "model").encode(making.picture(1)).ask("How many are there?")
    assert (answer.width, answer.height) == (64, 48)


def test_validation_pictures_are_measured_and_never_learned(making, build, start, tmp_path):
    recipe = making.recipe(build, start, tmp_path, data__validation=0.3, steps=2, every__evaluate=1)
    found = train(recipe)
    assert [step for step, _ in found.metrics] == [1, 2]
    assert found.metrics[0][1]["validation/language"] > 0
    learned = {
        one.split(":")[0] for batches in found.order.values() for b in batches for row in b for one in row
    }
    assert 0 < len(learned) <= found.starts[0].rows


def test_a_run_that_was_broken_off_goes_on_exactly(making, build, start, tmp_path):
    whole = train(making.recipe(build, start, tmp_path / "whole", steps=6))
    broken = making.recipe(build, start, tmp_path / "broken", steps=6)
    first = train(broken, stop_at=3)
    second = train(broken, resume=True)
    assert first.failures
    assert second.starts[0].first_step == 2
    together = first.losses | second.losses
    assert together == whole.losses
    assert first.order | second.order == whole.order
    one, other = (
        torch.load(tmp_path / name / "checkpoints/step-000006/optimizer.pt", weights_only=True)
        for name in ("whole", "broken")
    )
    for number, state in one["state"].items():
        torch.testing.assert_close(state["exp_avg"], other["state"][number]["exp_avg"], rtol=0, atol=0)


def test_losses_do_not_depend_on_how_a_step_is_cut_up(making, build, start, tmp_path):
    losses = [
        train(making.recipe(build, start, tmp_path / str(micro), steps=3, batch__micro=micro)).losses
        for micro in (1, 4)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with one core
def test_loaders_of_any_number_give_the_same_batches(making, build, start, tmp_path):
    runs = [
        train(making.recipe(build, start, tmp_path / str(workers), steps=3, data__workers=workers))
        for workers in (0, 2)
    ]
    assert runs[0].losses == runs[1].losses


def test_the_losses_are_those_in_git(making, start, build, tmp_path):
    """50 steps, fp32; a machine with other kernels may differ in the last digits only."""
    recipe = making.recipe(
        build,
        start,
        tmp_path,
        steps=50,
        every__checkpoint=0,
        optimizer__rates={"language": 3e-4, "sampler": 3e-4},
    )
    losses = [report.loss for report in train(recipe).reports]
    if os.environ.get("OPENFERRET_GOLDEN"):
        GOLDEN.write_text(json.dumps(losses, indent=1) + "\n")
    assert losses == pytest.approx(json.loads(GOLDEN.read_text()), rel=1e-4)


RUNNER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import making
from openferret.train.running.loop import run_training
from openferret.train.running.callbacks import Callback

class Lines(Callback):
    def on_step(self, report):
        with open({log!r}, "a") as file:
            file.write(f"{{report.step}} {{report.loss!r}}\\n")

recipe = making.recipe(Path({build!r}), Path({start!r}), Path({out!r}), steps=50, every__checkpoint=3,
    optimizer__rates={{"language": 3e-4, "sampler": 3e-4}})
run_training(recipe, (Lines(),), resume=True)
"""


@pytest.mark.slow
def test_killed_again_and_again_it_gives_the_losses_in_git(build, start, tmp_path):
    """SIGKILL at moments that nobody chose, among them while a checkpoint is written."""
    log = tmp_path / "losses.txt"
    script = RUNNER.format(
        tests=str(Path(__file__).parents[1]),
        log=str(log),
        build=str(build),
        start=str(start),
        out=str(tmp_path / "run"),
    )
    kills = 0
    while True:
        process = subprocess.Popen([sys.executable, "-c", script])
        lines = len(log.read_text().splitlines()) if log.exists() else 0
        began = time.monotonic()
        while kills < 4 and process.poll() is None:
            told = len(log.read_text().splitlines()) if log.exists() else 0
            if told >= lines + 5 + 4 * kills or time.monotonic() - began > 200:
                time.sleep(0.037 * kills)
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.01)
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert kills == 4
    golden = json.loads(GOLDEN.read_text())
    seen = [line.split() for line in log.read_text().splitlines()]
    assert {int(step) for step, _ in seen} == set(range(1, 51))
    for step, loss in seen:  # steps that were done twice among them
        assert float(loss) == pytest.approx(golden[int(step) - 1], rel=1e-4)


def test_a_torn_checkpoint_is_named_and_left_alone(making, build, start, tmp_path):
    recipe = making.recipe(build, start, tmp_path, steps=4)
    train(recipe)
    weights = tmp_path / "checkpoints/step-000004/weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"step-000004 is damaged.*weights\.safetensors.*step-000002"):
        run_training(recipe, resume=True)
    assert (tmp_path / "checkpoints/step-000002").is_dir()
    assert weights.stat().st_size == len(content) // 2


def test_another_recipe_does_not_go_on_with_a_run(making, build, start, tmp_path):
    train(making.recipe(build, start, tmp_path, steps=4), stop_at=3)
    other = making.recipe(build, start, tmp_path, steps=4, seed=1, optimizer__clip=0.5)
    with pytest.raises(
        InputError, match=r"another run: optimizer\.clip was 1.0 and is 0.5; seed was 0 and is 1"
    ):
        run_training(other, resume=True)
    with pytest.raises(InputError, match="--resume"):
        run_training(making.recipe(build, start, tmp_path, steps=4))


def test_a_weight_of_a_loss_that_there_is_not_is_refused(making, build, start, tmp_path):
    with pytest.raises(InputError, match=r"weighs a loss 'langauge'; those of this run are language"):
        run_training(making.recipe(build, start, tmp_path, losses={"langauge": 0.5}))


@pytest.mark.parametrize("target", ["embed_tokens", "mlp"])
def test_updates_are_of_matrices_alone(making, build, start, tmp_path, target):
    from openferret.train.recipes.recipe import LoraRecipe

    lora = LoraRecipe(rank=2, targets=("q_proj", target))
    with pytest.raises(InputError, match=rf"no layer '{target}'; it has .*q_proj"):
        run_training(making.recipe(build, start, tmp_path, model__lora=lora))


@pytest.mark.parametrize("resume", [True, False])
def test_a_model_that_is_not_the_runs_own_is_not_replaced(making, build, start, tmp_path, resume):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").write_text("somebody's")
    with pytest.raises(InputError, match="would be replaced"):
        run_training(making.recipe(build, start, tmp_path), resume=resume)
    assert (tmp_path / "model/model.safetensors").read_text() == "somebody's"


def test_other_data_do_not_go_on_with_a_run(making, build, start, tmp_path):
    train(making.recipe(build, start, tmp_path / "run", steps=4), stop_at=3)
    other = making.write_build(tmp_path / "other", pictures=12, each=4)
    with pytest.raises(InputError, match="the data changed"):
        run_training(making.recipe(other, start, tmp_path / "run", steps=4), resume=True)


def test_too_little_data_is_said(making, start, tmp_path):
    few = making.write_build(tmp_path / "few", pictures=1, each=1)
    with pytest.raises(InputError, match=r"1 rows of pictures, but a step takes 4; make batch.size"):
        run_training(making.recipe(few, start, tmp_path / "run"))


def test_no_samples_are_said(making, start, tmp_path):
    empty = making.write_build(tmp_path / "empty", pictures=0)
    with pytest.raises(InputError, match="nothing to learn from"):
        run_training(making.recipe(empty, start, tmp_path / "run"))


def test_missing_pictures_are_counted_named_and_may_be_left_out(making, start, tmp_path):
    torn = making.write_build(tmp_path / "torn")
    for number in range(3):
        (torn / "pictures" / f"{number}.png").unlink()
    with pytest.raises(InputError, match=r"3 of 12 pictures are missing, as mine/\d\.png.*skip_missing"):
        run_training(making.recipe(torn, start, tmp_path / "run"))
    found = train(making.recipe(torn, start, tmp_path / "run", data__skip_missing=True, steps=2))
    assert len(found.reports) == 2


def test_a_damaged_picture_is_named(making, start, tmp_path):
    torn = making.write_build(tmp_path / "torn", pictures=4)
    (torn / "pictures/2.png").write_bytes(b"\x89PNG no picture")
    with pytest.raises(InputError, match=r"mine/2\.png cannot be used.*skip_missing"):
        run_training(making.recipe(torn, start, tmp_path / "run", steps=8, data__workers=1))


def test_no_memory_suggests_a_smaller_batch(making, build, start, tmp_path, monkeypatch):
    from openferret.train.objectives.module import TrainingModule

    def full(self, batch, divisors):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(TrainingModule, "forward", full)
    with pytest.raises(
        InputError, match=r"out of memory in step 1 with batch\.micro = 2.*batch\.micro=1 --resume"
    ):
        run_training(making.recipe(build, start, tmp_path))


def test_a_full_disk_keeps_the_checkpoint_before(making, build, start, tmp_path, monkeypatch):
    from openferret.train.processes import distributed

    real, calls = distributed.save_file, []

    def save(tensors, path):
        calls.append(path)
        if len(calls) == 2:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(distributed, "save_file", save)
    recipe = making.recipe(build, start, tmp_path)
    with pytest.raises(InputError, match=r"the disk is full.*--resume"):
        run_training(recipe)
    assert [one.name for one in (tmp_path / "checkpoints").iterdir()] == ["step-000002"]
    assert train(recipe, resume=True).starts[0].first_step == 2


def test_two_runs_do_not_share_a_folder(making, build, start, tmp_path):
    from filelock import FileLock

    with FileLock(tmp_path / ".lock"), pytest.raises(InputError, match="another run"):
        run_training(making.recipe(build, start, tmp_path))


def test_sigterm_saves_and_stops(making, build, start, tmp_path):
    class Terminate(Callback):
        def on_step(self, report):
            if report.step == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    recipe = making.recipe(build, start, tmp_path, steps=6, every__checkpoint=0)
    with pytest.raises(InputError, match=r"stopped after step 3 of 6.*--resume"):
        run_training(recipe, (Terminate(),))
    assert train(recipe, resume=True).starts[0].first_step == 3


def test_cached_features_give_about_the_same_losses(making, build, start, tmp_path):
    seen = [
        train(
            making.recipe(build, start, tmp_path / str(cached), steps=3, data__cache_features=cached)
        ).losses
        for cached in (False, True)
    ]
    assert seen[0] == pytest.approx(seen[1], rel=1e-2)  # float16 on disk


def test_mirrored_rows_are_other_rows_and_the_same_from_the_cache(making, build, start, tmp_path):
    def losses(name, **changes):
        return train(making.recipe(build, start, tmp_path / name, steps=3, **changes)).losses

    plain, mirrored = losses("plain"), losses("mirrored", data__mirror=1.0)
    assert mirrored != pytest.approx(plain, rel=1e-3)
    assert losses("again", data__mirror=1.0, data__workers=0) == mirrored
    cached = losses("cached", data__mirror=1.0, data__cache_features=True)
    assert cached == pytest.approx(mirrored, rel=1e-2)


def test_a_mirrored_row_shows_a_mirrored_picture_with_its_boxes(making, build, start, tmp_path):
    from openferret.train.running.setup import set_up

    run = set_up(making.recipe(build, start, tmp_path, data__mirror=1.0))
    try:
        for planned in (row for rows in run.plan.passes(0, 0, 1) for row in rows):
            assert planned.mirrored
            seen, plain = run.reader.row(planned), run.reader.row(replace(planned, mirrored=False))
            assert (np.asarray(seen.image) == np.asarray(plain.image)[:, ::-1]).all()
            for one, other in zip(seen.dialogues, plain.dialogues, strict=True):
                for place in range(len(other.sample.regions)):
                    now, before = one.sample.box(place), other.sample.box(place)
                    assert (now.x1, now.x2) == (making.WIDTH - before.x2, making.WIDTH - before.x1)
    finally:
        run.parallel.close()


def test_pictures_in_tar_shards_are_the_same(making, build, start, tmp_path):
    packed = making.write_build(tmp_path / "packed", pack=True)
    losses = [
        train(making.recipe(place, start, tmp_path / name, steps=2)).losses
        for place, name in ((build, "a"), (packed, "b"))
    ]
    assert losses[0] == losses[1]


def test_lora_is_added_to_its_matrices(making, build, start, tmp_path):
    from openferret.loading import load_model
    from openferret.train.recipes.recipe import LoraRecipe

    recipe = making.recipe(
        build,
        start,
        tmp_path,
        steps=8,
        model__lora=LoraRecipe(rank=4),
        optimizer__rates={"language": 1e-2},
        every__evaluate=8,
        data__validation=0.3,
    )
    found = train(recipe)
    assert found.starts[0].trained == {"language": found.starts[0].trained["language"]}
    assert found.starts[0].trained["language"] < 0.2 * found.starts[0].parameters
    before, after = (load_model(place, engine="reference").model for place in (start, tmp_path / "model"))
    assert set(dict(before.named_parameters())) == set(dict(after.named_parameters()))
    layer = "model.language_model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(before.get_parameter(layer), after.get_parameter(layer))
    assert torch.equal(before.get_parameter("lm_head.weight"), after.get_parameter("lm_head.weight"))
    # The model that is written answers as the one that was trained.
    again = making.recipe(
        build,
        tmp_path / "model",
        tmp_path / "again",
        steps=1,
        every__evaluate=1,
        data__validation=0.3,
        optimizer__rates={"projector": 1e-12},
    )
    measured = train(again).metrics[-1][1]["validation/language"]
    assert measured == pytest.approx(found.metrics[-1][1]["validation/language"], rel=1e-3)


@pytest.mark.parametrize("stage", ["alignment", "instruction"])
def test_stages_train_their_parts(making, build, start, tmp_path, stage):
    recipe = making.recipe(build, start, tmp_path, steps=1, stage=stage)
    parts = set(train(recipe).starts[0].trained)
    assert parts == {"projector", "sampler"} | ({"language"} if stage == "instruction" else set())


def test_checkpointed_activations_and_bfloat16_run(making, build, start, tmp_path):
    plain = train(making.recipe(build, start, tmp_path / "a", steps=2))
    saved = train(making.recipe(build, start, tmp_path / "b", steps=2, activation_checkpointing=True))
    half = train(making.recipe(build, start, tmp_path / "c", steps=2, precision="bf16"))
    assert saved.losses == pytest.approx(plain.losses, rel=1e-6)
    assert half.losses == pytest.approx(plain.losses, rel=0.05)
