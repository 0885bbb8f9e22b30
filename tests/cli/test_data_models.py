import json
import re

import pytest
import typer
from typer.testing import CliRunner

from openferret.cli import data, data_models
from openferret.cli.commands import OneLineErrors
from openferret.data.building.pipeline import build
from openferret.data.building.recipe import load_recipe
from openferret.data.inspection.stats import count
from openferret.data.loading.dataset import Dataset
from openferret.data.marks import grounded_phrases
from openferret.data.pseudo_grounding.detectors import Located
from openferret.data.storage.parquet import read_samples
from openferret.errors import InputError
from openferret.regions import Box

from ..data import small_set
from ..data.scripted import completion, scripted

app = typer.Typer(cls=OneLineErrors, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(data.app, name="data")


def run(*words, **environment):
    result = CliRunner().invoke(app, ["data", *(str(word) for word in words)], env=environment)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def reply(body, _=0):
    """A dialogue about the first object that the last message tells of."""
    said = body["messages"][-1]["content"]
    name, box = re.search(r"Object 0 : (\w+) at (\[.*?\])", said).groups()
    return f"Question: What is at {box}?\nAnswer: It is a {name} {box}."


@pytest.fixture
def recipe(tmp_path):
    small_set.write_source(tmp_path / "source", 6)
    return small_set.write_recipe(tmp_path / "recipe.yaml", small_set.recipe_content(tmp_path / "source"))


@pytest.fixture
def llava(tmp_path):
    """Conversations without boxes about the same pictures."""
    small_set.write_source(tmp_path / "source", 6)

    def entry(number):
        said = "A dog sits by a tree." if number != 3 else "It is quiet."
        turns = [{"from": "human", "value": "<image>\nWhat is here?"}, {"from": "gpt", "value": said}]
        return {"id": str(number), "image": f"{number:012d}.jpg", "conversations": turns}

    file = tmp_path / "detail_23k.json"
    file.write_text(json.dumps([entry(number) for number in range(1, 7)]))
    source = {"kind": "llava_instruct", "root": str(file), "pictures": str(tmp_path / "source/pictures")}
    content = {"name": "small", "sources": {"llava": source}}
    return small_set.write_recipe(tmp_path / "llava.yaml", content)


class Scripted:
    name = "scripted"

    def __init__(self, stop_after=None):
        self.asked, self.stop_after = [], stop_after

    def locate(self, image, phrases):
        if len(self.asked) == self.stop_after:
            raise KeyboardInterrupt
        self.asked.append(list(phrases))
        return [[Located(Box(2, 3, 22, 33), 0.9)] if one == "dog" else [] for one in phrases]


def test_dialogues_become_samples_that_a_build_takes(recipe, tmp_path):
    out = tmp_path / "dialogues"
    with scripted(reply) as (url, log):
        result = run(
            *("dialogues", recipe, "--source", "mine", "--out", out, "--url", url, "--model", "first"),
            *("--refiner-model", "second", "--price", "1,2", "--workers", 3, "--key-env", "KEY"),
            KEY="secret",
        )
        assert result.exit_code == 0, result.output
        assert {body["model"] for _, body in log} == {"first", "second"}
    assert result.stdout.strip() == str(out / "samples.parquet")
    # 12 requests of 100 + 50 tokens at 1 and 2 a million.
    assert "6 accepted, 0 rejected" in result.stderr
    assert "cost 0.0024" in result.stderr
    samples = list(read_samples(out / "samples.parquet"))
    assert len(samples) == 6
    assert [one.phrase for one in grounded_phrases(samples[0].turns[1].text)]
    assert "secret" not in "".join(file.read_text() for file in out.glob("*.json*"))

    content = small_set.recipe_content(tmp_path / "source")
    finished = {"kind": "samples", "root": str(out), "pictures": str(tmp_path / "source/pictures")}
    content["sources"]["written"] = finished
    build(load_recipe(small_set.write_recipe(tmp_path / "both.yaml", content)), tmp_path / "built")
    counted = count(Dataset.open(tmp_path / "built"))
    assert counted.parts["region-based reasoning (assisted)"] == 6


def test_a_dry_run_asks_nobody(recipe, tmp_path):
    result = run(
        *("dialogues", recipe, "--source", "mine", "--out", tmp_path / "out", "--dry-run"),
        *("--url", "http://127.0.0.1:9/v1", "--model", "m", "--price", "0,10", "--limit", 4),
    )
    told = dict(line.split("\t") for line in result.stdout.splitlines())
    assert (told["dialogues"], told["requests"]) == ("4", "4")
    assert float(told["cost"]) == pytest.approx(4 * 320 * 10 / 1e6)
    assert not (tmp_path / "out").exists()


def test_a_spent_budget_ends_with_3_and_the_next_run_goes_on(recipe, tmp_path):
    words = ["dialogues", recipe, "--source", "mine", "--out", tmp_path / "out", "--model", "m"]
    with scripted(reply) as (url, log):
        first = run(*words, "--url", url, "--requests", 2, "--workers", 1)
        assert first.exit_code == 3
        assert "goes on" in first.stderr
        assert len(list(read_samples(tmp_path / "out/samples.parquet"))) == 2
        estimate = run(*words, "--url", url, "--dry-run")
        assert estimate.stdout.startswith("dialogues\t4\n")
        second = run(*words, "--url", url)
        assert (second.exit_code, len(log)) == (0, 6)
    assert "2 done before" in second.stderr
    assert len(list(read_samples(tmp_path / "out/samples.parquet"))) == 6


def test_a_misbehaving_server_is_told_of(recipe, tmp_path):
    words = ["dialogues", recipe, "--source", "mine", "--out", tmp_path / "out", "--model", "m"]
    with scripted(lambda *_: (403, {}, completion("no"))) as (url, _):
        result = run(*words, "--url", url)
    assert result.exit_code == 3
    assert "6 without a reply" in result.stderr
    with scripted(lambda *_: "I would rather not.") as (url, _):
        result = run(*words, "--url", url)
    assert "rejected for its format: 6" in result.stderr


def test_evaluation_pictures_are_not_written_about(recipe, tmp_path):
    (tmp_path / "val.txt").write_text("2\n3\n")
    leaks = f"leaks.sets.val={{of: coco_json, names: {tmp_path / 'val.txt'}}}"
    with scripted(reply) as (url, log):
        words = ["--url", url, "--model", "m", "--out", tmp_path / "out", "--set", leaks]
        assert run("dialogues", recipe, "--source", "mine", *words).exit_code == 0
        assert len(log) == 4
    assert (tmp_path / "out/problems.jsonl").read_text().count("evaluation picture") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--source", "other"], "it has mine"),
        (["--price", "1"], "--price must be two numbers"),
        (["--price", "-1,2"], "below 0"),
        (["--budget", "inf"], "the budget"),
        (["--per-minute", "inf"], "requests a minute"),
        (["--timeout", "nan"], "--timeout"),
        (["--url", "ftp://x"], "http or https"),
        (["--key-env", "NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE"),
        (["--refiner-url", "http://x"], "--refiner-model"),
        (["--prompts", "missing.yaml"], "missing.yaml"),
        (["--limit", "0"], "--limit"),
        (["--set", "sources.mine.options.splitt=1"], "splitt"),
        (["--set", "sources.mine.root=nowhere"], "nowhere does not exist"),
    ],
)
def test_bad_input_is_one_line(recipe, tmp_path, words, said):
    given = ["--source", "mine", "--out", tmp_path / "out", "--url", "http://127.0.0.1:9/v1", "--model", "m"]
    result = run("dialogues", recipe, *given, *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_nouns_of_conversations_get_boxes(llava, tmp_path, monkeypatch):
    detector = Scripted()
    monkeypatch.setattr(data_models, "_detector", lambda _: detector)
    result = run("pseudo-ground", llava, "--source", "llava", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "5 grounded, 1 in which nothing was found" in result.stderr
    samples = list(read_samples(tmp_path / "out/samples.parquet"))
    assert samples[0].turns[1].text == "<phrase>A dog <box:0> sits by a tree."
    assert {one.task for one in samples} == {"detail"}
    assert samples[0].provenance.generator == "boxes by scripted, score >= 0.35"

    again = run("pseudo-ground", llava, "--source", "llava", "--out", tmp_path / "out")
    assert "6 done before; 5 samples in all" in again.stderr
    other = run("pseudo-ground", llava, "--source", "llava", "--out", tmp_path / "out", "--score", 0.5)
    assert (other.exit_code, "another run" in other.stderr) == (2, True)


def test_a_stopped_grounding_goes_on(llava, tmp_path, monkeypatch):
    words = ["pseudo-ground", llava, "--source", "llava", "--out", tmp_path / "out"]
    monkeypatch.setattr(data_models, "_detector", lambda _: Scripted(stop_after=2))
    assert run(*words).exit_code == 130
    detector = Scripted()
    monkeypatch.setattr(data_models, "_detector", lambda _: detector)
    assert "3 done before" in run(*words).stderr  # one of them without a phrase
    assert len(detector.asked) == 3
    assert len(list(read_samples(tmp_path / "out/samples.parquet"))) == 5


def test_a_dry_run_of_grounding_tells_how_long_it_takes(llava, tmp_path, monkeypatch):
    monkeypatch.setattr(data_models, "_detector", lambda _: Scripted())
    result = run("pseudo-ground", llava, "--source", "llava", "--out", tmp_path / "out", "--dry-run")
    assert result.stdout.startswith("dialogues\t6\nphrases\t10\nseconds of ferret on cpu\t0 (")
    assert not (tmp_path / "out").exists()


def test_damaged_pictures_are_named_and_the_rest_goes_on(llava, tmp_path, monkeypatch):
    monkeypatch.setattr(data_models, "_detector", lambda _: Scripted())
    picture = tmp_path / "source/pictures/000000000001.jpg"
    picture.write_bytes(picture.read_bytes()[:200])
    result = run("pseudo-ground", llava, "--source", "llava", "--out", tmp_path / "out")
    assert "4 grounded" in result.stderr
    assert "000000000001.jpg" in (tmp_path / "out/problems.jsonl").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--detector", "yolo"], "--detector must be one of"),
        (["--detector", "owl"], "needs --model"),
        (["--score", "2"], "between 0 and 1"),
        (["--score", "nan"], "least"),
        (["--source", "x"], "no source 'x'"),
    ],
)
def test_bad_grounding_input_is_one_line(llava, tmp_path, words, said):
    result = run("pseudo-ground", llava, "--source", "llava", "--out", tmp_path / "out", *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


ENTITIES = (
    "<annotation><size><width>64</width><height>48</height></size><object><name>7</name><bndbox><xmin>2</xmin>"
    "<ymin>3</ymin><xmax>22</xmax><ymax>33</ymax></bndbox></object></annotation>"
)


@pytest.fixture
def captions(tmp_path):
    """Flickr30k Entities of four pictures: a dog, a cat, a horse, a dog."""
    root = tmp_path / "flickr"
    for folder in ("Annotations", "Sentences"):
        (root / folder).mkdir(parents=True)
    for number, name in enumerate(("dog", "cat", "horse", "dog"), 1):
        (root / "Annotations" / f"{number}.xml").write_text(ENTITIES)
        (root / "Sentences" / f"{number}.txt").write_text(f"[/EN#7/animals A {name}] runs .\n")
        small_set.scene(number).save(root / f"{number}.jpg")
    (root / "train.txt").write_text("1\n2\n3\n4\n")
    return {"kind": "flickr30k_entities", "root": str(root), "options": {"split": "train"}}


def test_analogies_of_a_model_become_questions_about_absence(captions, tmp_path):
    content = {"name": "small", "sources": {"mine": captions}}
    recipe = small_set.write_recipe(tmp_path / "recipe.yaml", content)
    words = [
        "analogies",
        recipe,
        "--source",
        "mine",
        "--out",
        tmp_path / "out",
        "--model",
        "m",
        "--price",
        "1,1",
    ]
    dry = run(*words, "--url", "http://127.0.0.1:9/v1", "--dry-run")
    assert dry.stdout.startswith("phrases\t3\n")
    with scripted(lambda body, _: "[]" if body["messages"][-1]["content"] == "cat" else "zebra\nlama") as (
        url,
        log,
    ):
        result = run(*words, "--url", url)
        assert (result.exit_code, len(log)) == (3, 3)
        assert "2 phrases, 1 without a usable reply" in result.stderr
        again = run(*words, "--url", url, "--requests", 1)
        assert "2 done before" in again.stderr
    file = tmp_path / "out/analogies.jsonl"
    other = small_set.write_recipe(tmp_path / "with.yaml", content | {"analogies": str(file)})
    build(load_recipe(other), tmp_path / "built")
    asked = {one.turns[0].text for one in Dataset.open(tmp_path / "built").samples() if one.negative}
    assert any("zebra" in text or "lama" in text for text in asked)
    file.write_text('{"phrase": "dog", "like": "cat"}\n')
    with pytest.raises(InputError, match="list of phrases"):
        build(load_recipe(other), tmp_path / "other")
