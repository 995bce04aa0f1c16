"""Progress bars on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(label: str, *, total: int, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr during the block; call the yielded function after each step.

    Without a terminal, or with `quiet`, there is no bar and the function does nothing.
    """
    if quiet:
        yield _nothing
        return
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

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _nothing
        return

    class Rate(TextColumn):
        def render(self, task: Task) -> Text:
            return Text(rate(task.speed), style="progress.data.speed")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(""))
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(label, total=total)
        yield lambda: bar.advance(task)


def rate(per_s: float | None) -> str:
    """Steps per second, minute or hour, the first that gives at least 1, as text; "" if unknown."""
    if not per_s:
        return ""
    for unit, seconds in (("s", 1), ("min", 60)):
        if per_s * seconds >= 1:
            return f"{per_s * seconds:.1f}/{unit}"
    return f"{per_s * 3600:.1f}/h"


def _nothing() -> None:
    """Do nothing: the step of a bar that is not shown."""
