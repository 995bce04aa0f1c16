"""One function over many items: what fails is kept in a table, the rest goes on.

The only place of hardmil that catches `Exception`.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from hardmil.errors import HardmilError, JobError, StoreError
from hardmil.files.atomic import no_room_left
from hardmil.jobs.failures import Failure, failure_of
from hardmil.jobs.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")


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
        return failure_of(name, error)


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
