"""What batching and the picture cache are worth under load, beside a server that has neither.

    OMP_NUM_THREADS=2 python benchmarks/serve.py --out serve.json

Both servers are this project's, in processes of their own, with the same model, HTTP and streaming; the plain one
answers one request at a time (`rows=1`) and reads every picture anew (`cache_bytes=0`). Clients send one streamed
request after the other on loopback, all on one picture or each on a new one. Servers take turns (A B A B) in every
cell; figures are the median of the repeats, p50 and p95 are of all requests of a cell.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from serve_client import Reply, ask, cut_out, data_url, random_box, server


@dataclass(frozen=True)
class Cell:
    """Some clients at one server.

    Attributes:
        which: of the servers.
        pictures: "same" or "different".
        clients: at a time.
        rate: requests a second.
        p50: of the seconds to the first text.
        p95: of the same.
    """

    which: str
    pictures: str
    clients: int
    rate: float
    p50: float
    p95: float


async def load(port: int, clients: int, bodies: list[dict[str, object]]) -> tuple[float, list[Reply]]:
    """All requests, so many at a time: seconds in all, and the replies."""
    left = iter(bodies)
    replies: list[Reply] = []

    async def client() -> None:
        for body in left:
            path = "/v1/refer" if "region" in body else "/v1/describe"
            reply = await ask(port, path, body)
            if reply.status != 200 or b"event: answer" not in reply.body:
                raise SystemExit(f"a request failed: {reply.body[-300:]!r}")
            replies.append(reply)

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - begun, replies


def bodies(count: int, pictures: str, chance: random.Random) -> list[dict[str, object]]:
    """Requests: three of four about a region, one for a description."""
    one = data_url(cut_out(chance))
    made: list[dict[str, object]] = []
    for number in range(count):
        image = {"data": one if pictures == "same" else data_url(cut_out(chance))}
        asked = {"max_new_tokens": 32} if number % 4 == 3 else {"region": random_box(chance)}
        made.append({"image": image, "stream": True, **asked})
    return made


def measure(given: argparse.Namespace) -> list[Cell]:
    """Every cell, the servers in turn."""
    chance = random.Random(0)
    cells: list[Cell] = []
    with server(given.model, 32, 1000) as (batched, _), server(given.model, 1, 0) as (plain, _):
        ports = {"openferret": batched, "one at a time": plain}
        for pictures in given.pictures:
            for clients in given.clients:
                seen: dict[str, list[tuple[float, float, float]]] = {which: [] for which in ports}
                for _ in range(given.repeats):
                    sent = bodies(max(given.requests, 2 * clients), pictures, chance)
                    for which, port in ports.items():
                        asyncio.run(load(port, 1, sent[:1]))
                        seconds, replies = asyncio.run(load(port, clients, sent))
                        waits = sorted(one.first for one in replies if one.first is not None)
                        p95 = waits[min(len(waits) - 1, int(0.95 * len(waits)))]
                        seen[which].append((len(sent) / seconds, statistics.median(waits), p95))
                for which, runs in seen.items():
                    middle = (statistics.median(column) for column in zip(*runs, strict=True))
                    cells.append(Cell(which, pictures, clients, *middle))
                    print(cells[-1], flush=True)
    return cells


def table(cells: list[Cell]) -> str:
    """Markdown, with ratios of the rates."""
    lines = [
        "| pictures | clients | requests/s | p50 / p95 first text | one at a time: requests/s | p50 / p95 | ratio |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for ours, plain in zip(cells[::2], cells[1::2], strict=True):
        lines.append(
            f"| {ours.pictures} | {ours.clients} | {ours.rate:.2f} | {ours.p50:.2f} / {ours.p95:.2f} s "
            f"| {plain.rate:.2f} | {plain.p50:.2f} / {plain.p95:.2f} s | {ours.rate / plain.rate:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="kit")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--pictures", nargs="+", choices=("same", "different"), default=["same", "different"])
    parser.add_argument("--requests", type=int, default=32, help="of a cell, at least; two a client at least")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    cells = measure(given)
    print(table(cells))
    if given.out:
        given.out.write_text(json.dumps([asdict(one) for one in cells], indent=1) + "\n")


if __name__ == "__main__":
    main()
