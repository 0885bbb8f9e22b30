"""A server under valid and hostile requests for a while: no error but the clients' own, and memory that stays.

    OMP_NUM_THREADS=2 python benchmarks/soak.py --minutes 15 --out soak.json

The server's caches are made small and filled first, so that pictures come and go. After the first fifth of the time
memory is compared: the median of the first quarter of the rest with that of its last quarter. It exits with 1 if a
reply is not one that its request deserves, if memory grows by more than 5 %, if files stay open, or the model failed.
Where the whole machine slept for a while, that time does not count, and requests that were under way are not judged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from serve_client import ask, cut_out, data_url, get, server
from soak_requests import HOSTILE, VALID, Attempt, Kind

FLAT = 0.05
_CACHE_MEGABYTES, _IMAGE_MEGABYTES = 60, 6
_SAMPLE_SECONDS = 2.0
_ASLEEP_SECONDS = 15.0  # between two samples: server and clients were stopped together
_MORE_FILES = 16  # connections that are just being opened or closed


@dataclass
class Seen:
    """What a soak saw.

    Attributes:
        replies: by kind of request and what came of it.
        wrong: replies that their requests did not deserve; the first few are kept.
        memory: of the server: seconds since the start, resident bytes, open files.
        asleep: seconds in which the machine stood still.
    """

    replies: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory: list[tuple[float, int, int]] = field(default_factory=list)
    asleep: float = 0.0


async def fill(port: int) -> None:
    """Asks about new pictures until the server's cache of them is full."""
    chance = random.Random(-1)
    for _ in range(500):
        await ask(port, "/v1/describe", {"image": {"data": data_url(cut_out(chance))}, "max_new_tokens": 16})
        held = float(read_metric(port, "openferret_cache_bytes"))
        if held > 0.8e6 * _CACHE_MEGABYTES:
            return


def read_metric(port: int, name: str) -> str:
    """A value of the server's metrics, as it is written."""
    _, text = get(port, "/metrics")
    return next(line.split()[1] for line in text.decode().splitlines() if line.startswith(f"{name} "))


async def soak(port: int, pid: int, given: argparse.Namespace) -> Seen:
    """Clients that ask and attack until the time is up."""
    seen = Seen()
    begun = time.monotonic()
    pool = [cut_out(random.Random(n)) for n in range(6)]

    def awake() -> float:
        return time.monotonic() - begun - seen.asleep

    async def client(number: int) -> None:
        chance = random.Random(number)
        while awake() < 60 * given.minutes:
            kinds = HOSTILE if chance.random() < given.hostile else VALID
            kind = chance.choice(kinds)
            picture = cut_out(chance) if chance.random() < 0.2 else chance.choice(pool)
            await _attempt(kind, Attempt(port, chance, picture), seen)

    async def watch() -> None:
        last = time.monotonic()
        while awake() < 60 * given.minutes:
            if time.monotonic() - last > _ASLEEP_SECONDS:
                seen.asleep += time.monotonic() - last
            last = time.monotonic()
            status = Path(f"/proc/{pid}/status").read_text()
            resident = int(status.split("VmRSS:")[1].split()[0]) * 1024
            files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
            seen.memory.append((awake(), resident, files))
            await asyncio.sleep(_SAMPLE_SECONDS)

    await asyncio.gather(watch(), *(client(n) for n in range(given.clients)))
    return seen


async def _attempt(kind: Kind, attempt: Attempt, seen: Seen) -> None:
    asleep = seen.asleep
    try:
        async with asyncio.timeout(120):
            got = await kind.send(attempt)
    except (OSError, TimeoutError, ValueError, LookupError) as error:
        got = f"{type(error).__name__}: {error}"
    deserved = got in kind.deserves
    if not deserved:
        await asyncio.sleep(2 * _SAMPLE_SECONDS)  # until it is known whether the machine slept
        if seen.asleep > asleep:
            seen.replies["(asleep)"] += 1
            return
    seen.replies[f"{kind.name}: {got if deserved else 'WRONG'}"] += 1
    if not deserved and len(seen.wrong) < 50:
        seen.wrong.append(f"{kind.name}: {got}")


def report(seen: Seen, port: int) -> dict[str, object]:
    """What is printed and written."""
    whole = seen.memory[-1][0]
    settled = [one for one in seen.memory if one[0] > whole / 5]
    quarter = max(1, len(settled) // 4)
    before, after = settled[:quarter], settled[-quarter:]
    first, last = (statistics.median(one[1] for one in part) for part in (before, after))
    files = [max(one[2] for one in part) for part in (before, after)]
    return {
        "minutes": whole / 60,
        "minutes_asleep": seen.asleep / 60,
        "requests": sum(seen.replies.values()),
        "replies": dict(sorted(seen.replies.items())),
        "wrong": seen.wrong,
        "memory_megabytes": [first / 1e6, last / 1e6],
        "growth": last / first - 1,
        "open_files": files,
        "failures_of_the_model": float(read_metric(port, "openferret_failures_total")),
    }


def main() -> None:
    """Soaks, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--hostile", type=float, default=0.5, help="share of requests")
    parser.add_argument("--model", default="kit")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with server(given.model, 32, _CACHE_MEGABYTES, image_megabytes=_IMAGE_MEGABYTES) as (port, pid):
        asyncio.run(fill(port))
        seen = asyncio.run(soak(port, pid, given))
        said = report(seen, port)
    print(json.dumps(said, indent=1))
    if given.out:
        given.out.write_text(json.dumps({**said, "memory": seen.memory}, indent=1) + "\n")
    flat = float(str(said["growth"])) <= FLAT
    files = said["open_files"]
    assert isinstance(files, list)
    if seen.wrong or not flat or files[1] > files[0] + _MORE_FILES or said["failures_of_the_model"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
