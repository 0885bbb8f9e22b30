"""Build the page of `openferret serve` from its TypeScript; `--check` only says whether what is committed is it.

Users of OpenFerret need no Node: what this writes is committed. It needs Node and npm, and fetches the compiler
as `package-lock.json` pins it where that is not there yet.
"""

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
WEB = ROOT / "src/openferret/serve/web"
SOURCE, BUILT = WEB / "source", WEB / "dist"
EXAMPLES = ROOT / "examples/pictures"


def build(target: Path) -> None:
    """Write the page to a new folder."""
    assets = target / "assets"
    (assets / "examples").mkdir(parents=True)
    npm("run", "--silent", "build", "--", f"--outfile={assets / 'app.js'}", "--log-level=warning")
    shutil.copy(SOURCE / "index.html", target)
    for name in ("style.css", "icon.svg"):
        shutil.copy(SOURCE / name, assets)
    for picture in sorted(EXAMPLES.iterdir()):
        shutil.copy(picture, assets / "examples")


def npm(*arguments: str) -> None:
    """Run npm in the page's folder; what it says goes to stderr."""
    subprocess.run(["npm", *arguments], cwd=WEB, check=True, stdout=sys.stderr)


def install() -> None:
    """Fetch the compilers that `package-lock.json` pins, unless they are there."""
    installed = WEB / "node_modules/.package-lock.json"
    pinned = WEB / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < pinned.stat().st_mtime:
        npm("ci", "--ignore-scripts", "--no-audit", "--no-fund")


def differences(left: Path, right: Path) -> list[str]:
    """Names of files that are not the same in both folders, below either."""
    names = {str(path.relative_to(top)) for top in (left, right) for path in top.rglob("*") if path.is_file()}
    there = sorted(name for name in names if (left / name).is_file() and (right / name).is_file())
    _, unequal, unread = filecmp.cmpfiles(left, right, there, shallow=False)
    return sorted(names.difference(there).union(unequal, unread))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where dist is out of date")
    checking = parser.parse_args().check
    if shutil.which("npm") is None or shutil.which("node") is None:
        print("skipped: building the page needs Node.js and npm, and neither was found", file=sys.stderr)
        return 0 if checking else 1
    install()
    npm("run", "--silent", "check")
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "dist"
        build(fresh)
        changed = differences(fresh, BUILT)
        if checking and changed:
            print(
                f"error: {BUILT.relative_to(ROOT)} is not what the source builds ({', '.join(changed)}); "
                "run scripts/build_page.py and commit",
                file=sys.stderr,
            )
            return 1
        if changed:
            shutil.rmtree(BUILT, ignore_errors=True)
            shutil.copytree(fresh, BUILT)
    print("the page is up to date" if checking or not changed else f"built {', '.join(changed)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
