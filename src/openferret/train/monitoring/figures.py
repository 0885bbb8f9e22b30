"""What a step tells, as named numbers: the same names in lines of JSON and on every dashboard."""

from __future__ import annotations

from openferret.train.running.callbacks import StepReport


def step_figures(report: StepReport) -> dict[str, float]:
    """A step's report as flat figures; a name's part before the slash groups them on a dashboard.

    Args:
        report: of the step.

    Returns:
        `loss`, `loss/NAME` for each loss, `task/NAME` for each task, `rate/PART` for each learning rate,
        `gradient`, `epoch`, and under `speed/` tokens and answers a second, the share of time that was waited for
        data, the share of padding, and seconds; `memory/gigabytes`.
    """
    seconds = max(report.seconds, 1e-9)
    return {
        "loss": report.loss,
        **{f"loss/{name}": value for name, value in report.losses.items()},
        **{f"task/{name}": value for name, value in report.by_task.items()},
        **{f"rate/{part}": value for part, value in report.rates.items()},
        "gradient": report.gradient,
        "epoch": report.epoch,
        "speed/tokens_per_second": report.tokens / seconds,
        "speed/answers_per_second": report.answers / seconds,
        "speed/waited": report.waited / seconds,
        "speed/padding": report.padding,
        "speed/seconds": report.seconds,
        "memory/gigabytes": report.memory / 1e9,
    }
