"""The Java halves of coco-caption, where a person has them: its tokenizer, METEOR 1.5 and SPICE.

They come inside `pycocoevalcap` (PyPI, 100 MB; SPICE's parser is fetched by that package on first use, never by
this one) and want a `java`. Nothing here is needed for any other figure.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from openferret.errors import InputError

_PUNCTUATION = frozenset(("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", *".?!,:-;", "--", "..."))
_LONGEST = 20_000  # characters of a caption that are read
_TIMEOUT = 1800.0


@dataclass(frozen=True)
class CocoJava:
    """Where they are.

    Args:
        java: the program.
        folder: of `pycocoevalcap`.
    """

    java: str
    folder: Path

    def tokenize(self, captions: Sequence[str]) -> list[list[str]]:
        """The Penn Treebank tokens of each caption in lower case, without punctuation."""
        # A last line that is sure to come back shows that none was lost or split.
        lines = [*(" ".join(one[:_LONGEST].split()) for one in captions), "end"]
        jar, main = "stanford-corenlp-3.4.1.jar", "edu.stanford.nlp.process.PTBTokenizer"
        said = self._run("tokenizer", ["-cp", jar, main, "-preserveLines", "-lowerCase"], lines)
        if said[len(captions)].split() != ["end"]:
            raise InputError("java's tokenizer gave other lines than it was given")
        return [[token for token in line.split() if token not in _PUNCTUATION] for line in said[:-1]]

    def meteor(
        self, candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
    ) -> tuple[float, list[float]]:
        """METEOR 1.5 of all tokenized captions together, which is no mean of them, and of each; 0..1."""
        command = ["-Xmx2G", "-jar", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm"]
        asked = [
            " ||| ".join(["SCORE", *(" ".join(one) for one in several), " ".join(candidate)])
            for candidate, several in zip(candidates, references, strict=True)
        ]
        counted = self._run("meteor", command, asked)
        said = self._run("meteor", command, [" ||| ".join(["EVAL", *counted])], len(asked) + 1)
        *each, together = [float(line) for line in said]
        return together, each

    def spice(
        self, candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
    ) -> list[float]:
        """SPICE of each tokenized caption, 0..1; NaN where neither side has anything to compare.

        Raises:
            InputError: its parser is not there, or it failed.
        """
        if not (self.folder / "spice" / "lib" / "stanford-corenlp-3.6.0.jar").is_file():
            raise InputError(
                "SPICE needs Stanford CoreNLP 3.6.0, which pycocoevalcap fetches: run "
                "`python -m pycocoevalcap.spice.get_stanford_models` in its spice folder"
            )
        items = [
            {"image_id": index, "test": " ".join(one), "refs": [" ".join(other) for other in several]}
            for index, (one, several) in enumerate(zip(candidates, references, strict=True))
        ]
        with tempfile.TemporaryDirectory() as place:
            asked, said = Path(place) / "asked.json", Path(place) / "said.json"
            asked.write_text(json.dumps(items), encoding="utf-8")
            self._run(
                "spice", ["-Xmx8G", "-jar", "spice-1.0.jar", str(asked), "-out", str(said), "-silent"], [], 0
            )
            try:
                found = {
                    item["image_id"]: item["scores"]["All"]["f"] for item in json.loads(said.read_text())
                }
                return [
                    float("nan") if found[one] is None else float(found[one]) for one in range(len(items))
                ]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise InputError(f"SPICE gave no scores ({type(error).__name__})") from None

    def _run(
        self, part: str, words: Sequence[str], lines: Sequence[str], wanted: int | None = None
    ) -> list[str]:
        """Lines in, lines out, in the folder of a part; InputError unless there are as many as wanted."""
        try:
            done = subprocess.run(
                [self.java, *words],
                cwd=self.folder / part,
                input="".join(f"{line}\n" for line in lines).encode(),
                capture_output=True,
                timeout=_TIMEOUT,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            reason = error.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
            raise InputError(f"java failed in {part}: {reason[0][:200]}") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError(f"java could not be run for {part}: {type(error).__name__}") from None
        said = done.stdout.decode(errors="replace").split("\n")[:-1]
        expected = len(lines) if wanted is None else wanted
        if len(said) != expected:
            raise InputError(f"java gave {len(said)} lines in {part}, not {expected}")
        return said


def find_coco_java() -> CocoJava:
    """Looks for `java` and `pycocoevalcap`.

    Raises:
        InputError: one of them is not there.
    """
    java, package = shutil.which("java"), find_spec("pycocoevalcap")
    if java is None:
        raise InputError("METEOR 1.5 and SPICE need Java: there is no `java` on the path")
    if package is None or not package.submodule_search_locations:
        raise InputError("METEOR 1.5 and SPICE come with pycocoevalcap: pip install pycocoevalcap")
    return CocoJava(java, Path(next(iter(package.submodule_search_locations))))
