"""What the README tells a reader to type exists. Continuous integration types it, too."""

import ast
import re
import runpy
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

import openferret
from openferret.cli.main import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUNNER = runpy.run_path(str(ROOT / "scripts" / "run_readme.py"), run_name="runner")
LINES = [line for _, text in RUNNER["blocks"](README, "sh", "text") for line in text.splitlines()]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("openferret ")])
def test_commands_take_what_the_readme_gives_them(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command, words = get_command(app), shlex.split(line)
    while commands := getattr(command, "commands", None):
        words = words[1:]
        command = commands[words[0]]
    command.make_context(words[0], words[1:])  # raises on unknown options and missing arguments


def test_make_targets_exist() -> None:
    asked = {target for line in LINES for target in re.findall(r"\bmake ([\w-]+)", line)}
    made = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo", "test"} <= asked <= made


def test_python_examples_import_public_names() -> None:
    trees = [ast.parse(text) for _, text in RUNNER["blocks"](README, "python")]
    imports = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in imports if node.module == "openferret" for alias in node.names}
    assert "Ferret" in names
    assert names <= set(openferret.__all__)


def test_files_that_are_linked_or_named_exist() -> None:
    linked = re.findall(r"\]\(((?!https?:)[^)#]+)\)", README)
    named = re.findall(r"examples/[\w./-]+", README)
    assert [path for path in [*linked, *named] if not (ROOT / path).exists()] == []


def test_every_block_is_run_in_order(tmp_path: Path) -> None:
    script = RUNNER["script"]('```sh\necho "it\'s" one\n```\n\n```text\nfalse\n```\n\n```sh\necho two\n```\n')
    assert script.splitlines()[2::2] == ['echo "it\'s" one', "echo two"]
    assert "false" not in script
