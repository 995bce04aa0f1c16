"""One function over many items: what fails is kept in a table, the rest goes on.

The only place of hardmil that catches `Exception`.
"""

import csv
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar, cast

from hardmil.errors import HardmilError, JobError, StoreError
from hardmil.files.atomic import no_room_left, write_atomically

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """An item that could not be done, and why."""

    name: str
    message: str
    traceback: str


@dataclass(frozen=True)
class Done(Generic[Result]):
    """What came back of one item."""

    result: Result


@dataclass(frozen=True)
class JobResults(Generic[Result]):
    """What came back, by name in the order of the items, and what did not."""

    results: dict[str, Result] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


def run_jobs(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    name: Callable[[Item], str],
    label: str,
    limit_s: float | None = None,
    quiet: bool = False,
) -> JobResults[Result]:
    """The function's results over all items, in this process and in order; a failing item is set aside.

    Args:
        function: Done once an item.
        items: Slides, trials.
        name: What to call an item in results and failures; unique.
        label: Shown beside the progress bar: "cutting patches".
        limit_s: An item that takes longer is set aside.
        quiet: No progress bar; there is none either where stderr is no terminal.

    Raises:
        StoreError: At the first item that finds the disk full or the folder closed: all others would, too.
    """
    todo = list(items)
    done: JobResults[Result] = JobResults()
    with progress(label, total=len(todo), quiet=quiet) as step:
        for position, item in enumerate(todo):
            try:
                outcome = attempt(function, item, name=name(item), limit_s=limit_s)
            except StoreError as error:
                left = len(todo) - position
                raise StoreError(
                    f"{error}\nStopped {label} at {name(item)}, {left} of {len(todo)} not done: "
                    "each would fail the same way"
                ) from error
            if isinstance(outcome, Failure):
                done.failures.append(outcome)
            else:
                done.results[name(item)] = outcome.result
            step()
    return done


def attempt(
    function: Callable[[Item], Result],
    item: Item,
    *,
    name: str,
    stops: tuple[type[HardmilError], ...] = (StoreError,),
    limit_s: float | None = None,
) -> Done[Result] | Failure:
    """What the function makes of one item, or why it could not.

    Args:
        function: Done once.
        item: A slide, a trial.
        name: What to call it in a failure.
        stops: Errors that are no failure of this item alone; they are raised.
        limit_s: Seconds after which it is given up; what hangs is left to hang, in a thread of its own.

    Raises:
        StoreError: If the disk is full or the folder closed.
    """
    try:
        return Done(function(item) if limit_s is None else _within(limit_s, function, item))
    except stops:
        raise
    except Exception as error:
        if no_room_left(error):
            raise StoreError(str(error)) from error
        return _failure(name, error)


def _within(limit_s: float, function: Callable[[Item], Result], item: Item) -> Result:
    """What the function makes of an item, if it is done in time.

    Raises:
        JobError: If it is not. Nothing can end a thread that waits for a disk; it is left behind.
    """
    outcome: list[Done[Result] | BaseException] = []

    def run() -> None:
        try:
            outcome.append(Done(function(item)))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit_s)
    match outcome:
        case [Done(result)]:
            return result
        case [BaseException() as error]:
            raise error
        case _:
            raise JobError(
                f"not done after {limit_s / 60:g} minutes, so it was set aside; expected less: look at the "
                "file and its disk, or give it more time with --max-minutes"
            )


def read_ahead(items: Iterable[Item], *, depth: int) -> Iterator[Item]:
    """The items, made in a thread of their own, up to `depth` of them before they are asked for.

    What making one raises is raised where it is asked for.
    """
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(max_workers=1) as thread:
        waiting = deque(thread.submit(next, iterator, end) for _ in range(depth))
        try:
            while (item := waiting.popleft().result()) is not end:
                waiting.append(thread.submit(next, iterator, end))
                yield cast(Item, item)
        finally:
            thread.shutdown(cancel_futures=True)


def print_failures(failures: list[Failure], *, log: Path | None = None) -> None:
    """Print a table on stderr: which item, why, and the file that holds its traceback."""
    if not failures:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{len(failures)} failed", title_justify="left")
    for heading in ("which", "why", "traceback")[: 2 if log is None else 3]:
        table.add_column(heading, overflow="fold")
    for failure in failures:
        # Text, not str: rich would read the brackets of a message as markup.
        cells = [failure.name, failure.message] + ([str(log)] if log is not None else [])
        table.add_row(*(Text(cell) for cell in cells))
    Console(stderr=True).print(table)


def write_failures(folder: Path, failures: list[Failure]) -> Path | None:
    """Write `failures.csv` and, with the tracebacks, `failures.log`; the path of the latter.

    Without failures, what an earlier run left of these files is removed, and None comes back.

    Raises:
        StoreError: If the disk is full, or the folder may not be written.
    """
    table, log = folder / "failures.csv", folder / "failures.log"
    if not failures:
        table.unlink(missing_ok=True)
        log.unlink(missing_ok=True)
        return None
    with write_atomically(table) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("name", "message"))
        rows.writerows((failure.name, failure.message) for failure in failures)
    with write_atomically(log) as draft:
        text = "\n".join(f"{failure.name}\n{failure.traceback}" for failure in failures)
        draft.write_text(text, encoding="utf-8")
    return log


@contextmanager
def progress(label: str, *, total: int, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr for as long as the block runs; call what it yields once a step.

    Without a terminal, or with `quiet`, there is no bar and the call does nothing.
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
    """Steps done in a second, a minute or an hour, whichever makes a number from 1 on; "" where not known."""
    if not per_s:
        return ""
    for unit, seconds in (("s", 1), ("min", 60)):
        if per_s * seconds >= 1:
            return f"{per_s * seconds:.1f}/{unit}"
    return f"{per_s * 3600:.1f}/h"


def _nothing() -> None:
    """The step of a bar that is not shown."""


def _failure(name: str, error: Exception) -> Failure:
    """A user's error speaks for itself; of anything else the type is part of the message."""
    message = str(error) if isinstance(error, HardmilError) else f"{type(error).__name__}: {error}"
    return Failure(name=name, message=message, traceback="".join(traceback.format_exception(error)))
