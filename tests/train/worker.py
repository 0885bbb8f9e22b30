"""One process of a distributed run: `torchrun worker.py BUILD START OUT CHANGES`; writes what it saw to OUT."""

import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import making
from torch.distributed.tensor import DTensor

from openferret.train.processes.launching import leave_job
from openferret.train.running import loop
from openferret.train.running.callbacks import Callback


class Watch(Callback):
    """Losses and rows of this process; kills it if asked to."""

    def __init__(self, out: Path, kill_at: int) -> None:
        self._out, self._kill_at = out, kill_at
        self._seen = {"losses": {}, "samples": {}}

    def on_start(self, run) -> None:
        self._seen["processes"] = run.processes
        self._seen["first_step"] = run.first_step
        self._process = run.process

    def on_step(self, report) -> None:
        self._seen["losses"][report.step] = report.loss
        self._seen["samples"][report.step] = [one.samples for one in report.batches]
        if report.step == self._kill_at and self._process == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_end(self, step, folder) -> None:
        self._seen["sharded"] = sorted(
            name for name, one in self.module.named_parameters() if isinstance(one, DTensor)
        )
        (self._out / f"seen-{self._process}.json").write_text(json.dumps(self._seen))


def main() -> None:
    build, start, out, given = sys.argv[1:]
    changes = json.loads(given)
    kill_at, resume = changes.pop("kill_at", 0), changes.pop("resume", False)
    recipe = making.recipe(Path(build), Path(start), Path(out), **changes)
    watch = Watch(Path(out), kill_at)
    real = loop.set_up

    def set_up(*arguments):
        run = real(*arguments)
        watch.module = run.module
        return run

    loop.set_up = set_up
    loop.run_training(recipe, (watch,), resume=resume)
    leave_job()


if __name__ == "__main__":
    main()
