"""Run every `sh` and `python` block of README.md in order, as a reader would: in one shell, from the root.

Needs no more than Python's own library, so that it runs before anything is installed. The first command that
fails ends it.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def blocks(markdown: str, *languages: str) -> list[tuple[str, str]]:
    """The fenced blocks in one of these languages, as (language, text)."""
    pattern = rf"^```({'|'.join(languages)})\n(.*?)^```$"
    return re.findall(pattern, markdown, re.DOTALL | re.MULTILINE)


def script(markdown: str) -> str:
    """One bash script of all blocks that are meant to be run, each command printed before it runs."""
    lines = ["set -euo pipefail"]
    for language, text in blocks(markdown, "sh", "python"):
        if language == "python":
            lines += [_announce("the Python example"), f".venv/bin/python - <<'PYTHON'\n{text}PYTHON"]
        else:
            lines += [part for line in text.splitlines() for part in (_announce(line), line)]
    return "\n".join(lines) + "\n"


def _announce(command: str) -> str:
    return f"printf '\\n$ %s\\n' {shlex.quote(command)}"


if __name__ == "__main__":
    commands = ["bash", "-c", script(README.read_text(encoding="utf-8"))]
    sys.exit(subprocess.run(commands, cwd=README.parent, stdin=subprocess.DEVNULL, check=False).returncode)
