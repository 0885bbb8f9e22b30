"""Several processes on this machine, through torch's own launcher."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from openferret.errors import InputError


def launch(processes: int, arguments: Sequence[str]) -> None:
    """Runs `openferret train` in several processes; they find each other through torchrun.

    Args:
        processes: how many.
        arguments: after `openferret train`.

    Raises:
        InputError: a process failed or was killed; the others are ended.
    """
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"),
        *("--no-python", sys.executable, "-m", "openferret", "train", *arguments),
    ]
    status = subprocess.run(command, check=False).returncode
    if status:
        raise InputError(
            f"the job ended, because a process of it failed or was killed (status {status}; what it said is above). "
            "Checkpoints are whole: the same command with --resume goes on from the newest"
        )


def leave_job() -> None:
    """Ends a process of a job whose work is done and written; does nothing in a process that no launcher started.

    Now and then a thread of PyTorch's gloo aborts an interpreter that winds down ("terminate called without an active
    exception"), and the launcher would call a finished job a failed one.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
