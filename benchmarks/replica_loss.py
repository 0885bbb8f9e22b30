"""A replica of `openferret serve --engine ray` is killed under load: who waits, how long, and when it is replaced.

    python benchmarks/replica_loss.py --replicas 2 --clients 4 --seconds 60

Clients ask without end, each a picture of its own and not streamed. After a while one replica's process is killed. It
exits with 1 if a request failed or if all replicas were not back within 30 seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import time
from pathlib import Path

from serve_client import ask, cut_out, data_url, get, random_box, started
from soak import read_metric

BACK_SECONDS = 30.0


def replica_processes() -> list[int]:
    """Ids of the processes of this machine in which replicas run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if name.startswith(b"ray::ServeReplica"):
            found.append(int(folder.name))
    return sorted(found)


async def _count(port: int) -> int:
    return int(float(await asyncio.to_thread(read_metric, port, "openferret_replicas")))


async def load(port: int, given: argparse.Namespace) -> dict[str, object]:
    """Asks, kills, and goes on asking until all replicas are back and the time is up."""
    done: list[tuple[float, float]] = []  # when it was sent, and how long it took
    wrong: list[str] = []
    over = asyncio.Event()

    async def client(number: int) -> None:
        chance = random.Random(number)
        image = {"data": data_url(cut_out(chance))}
        while not over.is_set():
            sent = time.monotonic()
            reply = await ask(port, "/v1/refer", {"image": image, "region": random_box(chance)})
            done.append((sent, time.monotonic() - sent))
            if reply.status != 200:
                wrong.append(reply.body[-200:].decode("latin-1"))

    clients = [asyncio.create_task(client(number)) for number in range(given.clients)]
    await asyncio.sleep(given.seconds / 2)
    killed = time.monotonic()
    os.kill(replica_processes()[0], signal.SIGKILL)
    while await _count(port) == given.replicas:
        await asyncio.sleep(0.2)
    noticed = time.monotonic() - killed
    while await _count(port) < given.replicas:
        await asyncio.sleep(0.2)
    back = time.monotonic() - killed
    await asyncio.sleep(given.seconds / 2)
    over.set()
    await asyncio.gather(*clients)
    before = [took for sent, took in done if sent + took < killed]
    hit = [took for sent, took in done if sent < killed <= sent + took]
    until = [took for sent, took in done if killed < sent <= killed + back]
    return {
        "requests": len(done),
        "failed": wrong,
        "retried": float(read_metric(port, "openferret_retries_total")),
        "seconds_until_noticed": noticed,
        "seconds_until_all_replicas": back,
        "seconds_of_a_request_before": statistics.median(before),
        "longest_of_those_in_flight": max(hit, default=0.0),
        "longest_until_all_were_back": max(until, default=0.0),
    }


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=40, help="of load, beside the time of the loss")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with started(
        [
            *(sys.executable, "-m", "openferret", "serve", "--engine", "ray", "--deadline", "300"),
            *("--replicas", str(given.replicas), "--replica-cpus", "1"),
        ]
    ) as (port, _):
        while int(float(read_metric(port, "openferret_replicas"))) < given.replicas:
            time.sleep(0.5)
        said = asyncio.run(load(port, given))
        assert get(port, "/health/ready")[0] == 200
    print(json.dumps(said, indent=1))
    if given.out:
        given.out.write_text(json.dumps(said, indent=1) + "\n")
    back = said["seconds_until_all_replicas"]
    assert isinstance(back, float)
    if said["failed"] or back > BACK_SECONDS:
        sys.exit(1)


if __name__ == "__main__":
    main()
