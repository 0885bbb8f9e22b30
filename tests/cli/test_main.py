"""The command starts quickly, without what it does not need, and lists what it can do."""

import subprocess
import sys

import pytest

import openferret

HEAVY = {"torch", "transformers", "PIL", "numpy"}


@pytest.mark.parametrize("words", [["--help"], ["refer", "--help"], ["--version"], ["model", "--help"]])
def test_help_imports_nothing_heavy(words):
    command = [sys.executable, "-X", "importtime", "-m", "openferret", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & HEAVY


def test_help_lists_every_verb(run):
    for words in ([], ["--help"], ["-h"]):
        listed = run(*words)
        assert listed.exit_code == 0
        for verb in ("refer", "ground", "describe", "detect", "ask", "chat", "model"):
            assert verb in listed.stdout


def test_version(run):
    assert run("--version").stdout == f"openferret {openferret.__version__}\n"


def test_package_exports_lazily():
    assert set(openferret.__all__) <= set(dir(openferret))
    assert openferret.Box(1, 2, 3, 4).x2 == 3
    with pytest.raises(AttributeError, match="no_such"):
        _ = openferret.no_such
    code = "import sys, openferret; sys.exit(bool({'torch', 'numpy', 'PIL'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
