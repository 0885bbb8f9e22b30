import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from openferret.cli import data
from openferret.cli.commands import OneLineErrors


def load_helper():
    place = Path(__file__).parents[1] / "data" / "small_set.py"
    spec = importlib.util.spec_from_file_location("small_set", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


small_set = load_helper()
app = typer.Typer(cls=OneLineErrors, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(data.app, name="data")


def run(*words):
    result = CliRunner().invoke(app, ["data", *(str(word) for word in words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def recipe(tmp_path):
    small_set.write_source(tmp_path / "source")
    content = small_set.recipe_content(tmp_path / "source")
    content["sources"]["mine"]["root"] = "${HERE}/boxes.json"
    return small_set.write_recipe(tmp_path / "recipe.yaml", content)


@pytest.fixture
def built(recipe, tmp_path):
    path = f"HERE={tmp_path / 'source'}"
    result = run(
        "build", recipe, "--out", tmp_path / "out", "--path", path, "--set", "seed=2", "--workers", 1
    )
    assert result.exit_code == 0, result.output
    assert "individual objects" in result.stdout
    return tmp_path / "out"


def test_a_data_set_is_built_counted_checked_viewed_and_exported(built, tmp_path):
    assert json.loads((built / "manifest.json").read_text())["seed"] == 2
    rows = json.loads(run("stats", built, "--json").stdout)["rows"]
    assert {row["source"] for row in rows} == {"mine"}
    checked = run("check", built, "--pictures", "open")
    assert (checked.exit_code, checked.stdout) == (0, "")
    assert run("view", built, "--out", tmp_path / "page.html", "--limit", 3).exit_code == 0
    assert "<article" in (tmp_path / "page.html").read_text()
    assert run("export", built, "--out", tmp_path / "llava.json").exit_code == 0
    exported = json.loads((tmp_path / "llava.json").read_text())
    assert len(exported) == sum(row["samples"] for row in rows)
    assert Path(exported[0]["image"]).is_file()


def test_problems_end_with_3(built, tmp_path):
    next((tmp_path / "source" / "pictures").iterdir()).unlink()
    result = run("check", built)
    assert result.exit_code == 3
    assert result.stdout.startswith("missing picture\t")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["build", "nothing", "--out", "x"], "grit-mini"),
        (["build", "{recipe}", "--out", "x"], "--path HERE=FOLDER"),
        (["build", "{recipe}", "--out", "x", "--set", "sede=1", "--path", "HERE=."], "did you mean 'seed'"),
        (["build", "{recipe}", "--out", "x", "--path", "HERE"], "not a setting"),
        (["build", "{recipe}", "--out", "x", "--path", "HERE=source", "--engine", "spark"], "local, ray"),
        (["stats", "nowhere"], "holds no data set"),
        (["check", "nowhere", "--pictures", "some"], "--pictures"),
        (["view", "nowhere"], "holds no data set"),
        (["export", "nowhere", "--out", "x", "--space", "miles"], "--space"),
    ],
)
def test_what_cannot_be_done_is_one_line(recipe, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*(str(recipe) if word == "{recipe}" else word for word in words))
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("x").exists()


def test_sources_are_listed_without_loading_what_reads_them():
    listed = run("sources").stdout
    assert "visual_genome" in listed
    assert "annotations.xml" in listed
    assert "()" not in listed
    code = (
        "import sys; from openferret.cli.data import app\n"
        "try: app(['sources'])\n"
        "except SystemExit: pass\n"
        "print({'torch', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
