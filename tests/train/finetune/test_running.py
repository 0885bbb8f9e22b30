"""A whole fine-tuning of a tiny model: what it leaves, that it goes on, and what it refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from openferret import Ferret
from openferret.errors import InputError
from openferret.train.finetune import pace, running
from openferret.train.finetune.running import Settings, finetune, in_words, look_at
from openferret.train.finetune.stages import Effort
from openferret.train.finetune.start import NOUNS, add_nouns


@pytest.fixture
def nouns(monkeypatch):
    """The tiny Kit's seven nouns."""
    known = ["dog", "ball", "man", "box", "picture", "region", "image"]
    monkeypatch.setattr("openferret.train.finetune.start.kit_nouns", lambda: known)
    return known


@pytest.fixture
def settings(start, tmp_path, nouns):
    photos = tmp_path / "photos"
    photos.mkdir()
    images, annotations = [], []
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)
        Image.fromarray(noise).resize((80, 60)).save(photos / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 80, "height": 60})
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "bbox": [8, 6, 24, 18], "iscrowd": 0}
        )
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "red dog"}]}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    effort = Effort(see=3, say=2, boards=(), threads=1)
    return Settings(tmp_path / "boxes.json", photos, tmp_path / "out", str(start), effort, held_out=0.3)


def run(settings, resume=False):
    told = []
    outcome = finetune(settings, look_at(settings, lambda data: None), told.append, resume)
    return outcome, told


def test_a_fine_tuning_leaves_a_model_that_every_verb_opens(settings, nouns):
    outcome, told = run(settings)
    assert [one.name for one in outcome.changes] == [
        "R@1",
        "every box right, or said to be absent",
        "right, by box",
    ]
    assert any("this will take about" in one for one in told)
    assert json.loads((outcome.folder / NOUNS).read_text()) == [*nouns, "red dog"]
    scene = Ferret.load(outcome.folder).encode(settings.images / "0.png")
    assert scene.ground("a red dog").mentions[0].phrase == "a red dog"
    report = json.loads((settings.out / "report.json").read_text())
    assert report["pictures"] == {"learned": 4, "held out": 2}
    assert (settings.out / "runs" / "see" / "log.jsonl").is_file()
    assert list((settings.out / "runs" / "say" / "panels").glob("*.png"))
    assert not (settings.out / "work").exists()
    again, _ = run(settings, resume=True)
    assert again.changes == outcome.changes


def test_killed_between_its_parts_it_goes_on(settings, monkeypatch):
    def killed(self, last):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running._Work, "_publish", killed)
        with pytest.raises(KeyboardInterrupt):
            run(settings)
    trained = []
    monkeypatch.setattr(running, "run_training", lambda *words, **how: trained.append(words))
    outcome, told = run(settings, resume=True)
    assert not trained
    assert outcome.folder.is_dir()
    assert not any("this will take about" in one for one in told)


def test_a_folder_with_a_fine_tuning_is_not_overwritten(settings):
    settings.out.mkdir()
    (settings.out / "finetune.json").write_text(json.dumps({"settings": settings.identity()}))
    with pytest.raises(InputError, match="go on with --resume"):
        run(settings)
    with pytest.raises(InputError, match="was begun with other data"):
        run(replace(settings, held_out=0.5), resume=True)


def test_a_folder_with_something_else_is_not_touched(settings):
    settings.out.mkdir()
    (settings.out / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no fine-tuning"):
        run(settings)
    assert [one.name for one in settings.out.iterdir()] == ["thesis.txt"]


def test_a_full_disk_is_said_before_any_work(settings, monkeypatch):
    full = type("usage", (), {"free": 1_000_000})
    monkeypatch.setattr(running.shutil, "disk_usage", lambda path: full)
    with pytest.raises(InputError, match=r"3\.5 GB while it runs, and 0\.0 GB are free"):
        run(settings)


def test_the_memory_that_is_lacking_is_said_with_a_smaller_batch(settings, monkeypatch):
    from openferret.train.objectives.locator import LocatorObjective

    def starve(*words):
        raise MemoryError

    monkeypatch.setattr(LocatorObjective, "losses", starve)
    with pytest.raises(InputError, match="--batch 6 --resume"):
        run(settings)


def test_new_nouns_change_nothing_that_was_known(tiny, monkeypatch):
    loaded = tiny.loaded("kit")
    known = (0, (5,), (6,), False, 0.9, 0.1)
    monkeypatch.setattr(loaded.model.config, "noun_forms", (known,))
    wider = add_nouns(loaded, ["acme dog", "ball"])
    assert wider.config.region_nouns == 9
    acme, ball = (tuple(loaded.processor.tokenize(f" {one}")) for one in ("acme dog", "ball"))
    forms = wider.config.noun_forms
    assert [(number, after, an) for number, after, _, an, *_ in forms[1:]] == [
        (7, acme, True),
        (8, ball, False),
    ]
    assert forms[0] == known
    pooled = torch.randn(3, loaded.model.model.namer.hidden.in_features)
    before, after = loaded.model.model.namer(pooled), wider.model.namer(pooled)
    assert torch.allclose(before, after[:, :7], atol=1e-5)
    assert (after[:, 7:] < before.max(-1, keepdim=True).values).all()


def test_times_are_said_in_words():
    assert in_words(7 * 60) == "7 minutes"


def test_other_boxes_do_not_go_on_with_a_fine_tuning(settings, monkeypatch):
    monkeypatch.setattr(running._Work, "do", lambda self: None)
    run(settings)
    run(settings, resume=True)
    content = json.loads(settings.data.read_text())
    content["annotations"][0]["bbox"] = [9, 6, 24, 18]
    settings.data.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"not those that .* was begun with"):
        run(settings, resume=True)


def test_a_trial_that_was_stopped_does_not_stop_the_next(making, build, start, tmp_path):
    recipe = making.recipe(build, start, tmp_path)
    (tmp_path / recipe.name / "checkpoints" / "step-000001").mkdir(parents=True)
    assert pace._try(recipe, None, tmp_path) > 0
