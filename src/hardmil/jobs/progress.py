"""Progress on stderr: a bar in a terminal, otherwise a line every minute."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from hardmil.stopping import told_at_stop, undone_at_stop

LINE_EVERY_S = 60.0
"""Seconds between two lines where there is no terminal, as in a batch job."""


@dataclass(eq=False)
class Steps:
    """How far some work is; called after each step, or after several."""

    label: str
    total: int
    n_done: int = 0
    show: Callable[["Steps"], None] = lambda steps: None

    def __call__(self, n: int = 1) -> None:
        """Count n more steps."""
        self.n_done += n
        self.show(self)

    def reach(self, n_done: int) -> None:
        """Set how many steps are done: some were not needed."""
        self.n_done = n_done
        self.show(self)


@contextmanager
def progress(label: str, *, total: int, quiet: bool = False) -> Iterator[Steps]:
    """Show on stderr how far the work of the block is; call what it yields after each step.

    A bar in a terminal; otherwise a line at the end of each minute, so that a log shows that work goes on.
    Nothing with `quiet`.
    """
    shown = nullcontext(Steps(label, total)) if quiet else _shown(label, total=total)
    with shown as steps, told_at_stop(lambda: f"{steps.label}: {steps.n_done} of {steps.total}"):
        yield steps


def _shown(label: str, *, total: int) -> AbstractContextManager[Steps]:
    return _bar(label, total=total) if sys.stderr.isatty() else _lines(label, total=total)


@contextmanager
def _bar(label: str, *, total: int) -> Iterator[Steps]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(TextColumn):
        def render(self, task: Task) -> Text:
            return Text(rate(task.speed), style="progress.data.speed")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(""))
    with (
        Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar,
        undone_at_stop(bar.stop),
    ):
        task = bar.add_task(label, total=total)
        yield Steps(
            label,
            total,
            show=lambda steps: bar.update(task, completed=steps.n_done, description=steps.label),
        )
        # Steps that were not needed, such as the epochs of a training that stopped early.
        bar.update(task, completed=total)


@contextmanager
def _lines(label: str, *, total: int) -> Iterator[Steps]:
    steps, is_over, started = Steps(label, total), threading.Event(), time.monotonic()

    def tell() -> None:
        while not is_over.wait(LINE_EVERY_S):
            line = progress_line(steps, seconds=time.monotonic() - started)
            print(line, file=sys.stderr, flush=True)

    # A thread, because a single step can take longer than a minute.
    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield steps
    finally:
        is_over.set()
        teller.join()


def progress_line(steps: Steps, *, seconds: float) -> str:
    """What is done, and about how much time is left at the same speed."""
    done = f"{steps.label}: {steps.n_done} of {steps.total} after {minutes(seconds)}"
    if not 0 < steps.n_done < steps.total:
        return done
    left = seconds * (steps.total - steps.n_done) / steps.n_done
    return f"{done}, about {minutes(left)} left"


def minutes(seconds: float) -> str:
    """A duration in minutes, or in hours and minutes."""
    n = max(1, round(seconds / 60))
    return f"{n} min" if n < 60 else f"{n // 60} h {n % 60} min"


def rate(per_s: float | None) -> str:
    """Steps per second, minute or hour, the first that gives at least 1, as text; "" if unknown."""
    if not per_s:
        return ""
    for unit, seconds in (("s", 1), ("min", 60)):
        if per_s * seconds >= 1:
            return f"{per_s * seconds:.1f}/{unit}"
    return f"{per_s * 3600:.1f}/h"
