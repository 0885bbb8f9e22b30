"""`openferret train`: recipes and Kit's stages under one word."""

import subprocess
import sys

import pytest


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "openferret", "train", *arguments], capture_output=True, text=True, check=False
    )


def test_a_recipe_is_printed_in_full_with_its_changes():
    done = run("finetune", "--set", "batch.micro=2", "--dry-run")
    assert done.returncode == 0
    assert "micro: 2" in done.stdout
    assert "weight_decay" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("finetun",), "no recipe 'finetun'"),
        (("finetune", "--set", "batch.micros=2"), "did you mean 'micro'"),
        (("finetune", "--set", "data.build=[nowhere]"), "nowhere holds no data set"),
        (("kit",), "--data"),
    ],
)
def test_errors_are_one_line(arguments, told):
    done = run(*arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_names_the_recipes():
    done = run("--help")
    assert "ferret-7b" in done.stdout
    assert "kit" in done.stdout
