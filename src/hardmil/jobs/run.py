"""Run one function on many items: failures are collected, the other items go on.

The only module of hardmil that catches `Exception`.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from hardmil.errors import HardmilError, JobError, StoreError
from hardmil.files.atomic import is_disk_full
from hardmil.jobs.failures import Failure, failure_of
from hardmil.jobs.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Done(Generic[Result]):
    """The result of one item."""

    result: Result


@dataclass(frozen=True)
class JobResults(Generic[Result]):
    """Results by name in the order of the items, and the failures."""

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
    """The results of a function on all items, in this process and in order; failures are collected.

    Args:
        function: Called once for each item.
        items: For example slides or trials.
        name: Gives the name of an item in results and failures; unique.
        label: Shown next to the progress bar, such as "placing patches".
        limit_s: Seconds after which an item fails; None: no limit.
        quiet: Show no progress bar; without a terminal there is none anyway.

    Raises:
        StoreError: At the first item that cannot be written: all others would fail the same way.
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
    """The result of the function on one item, or its failure.

    Args:
        function: Called once.
        item: For example a slide or a trial.
        name: The name of the item in a failure.
        stops: Errors that concern more than this item; they are raised.
        limit_s: Seconds after which the item fails; a call that hangs is left behind in its own thread.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
        HardmilError: If the function raises one of `stops`.
    """
    try:
        return Done(function(item) if limit_s is None else _within(limit_s, function, item))
    except stops:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise StoreError(str(error)) from error
        return failure_of(name, error)


def _within(limit_s: float, function: Callable[[Item], Result], item: Item) -> Result:
    """The result of the function on an item, if it is done in time.

    Raises:
        JobError: If it is not. A thread that waits for a disk cannot be stopped; it is left behind.
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
                f"not done after the limit of {limit_s / 60:g} minutes, so it was skipped; check the file "
                "and its disk, or raise the limit with --max-minutes"
            )


def read_ahead(items: Iterable[Item], *, depth: int) -> Iterator[Item]:
    """The items, produced in a separate thread up to `depth` items ahead of the consumer.

    An error in producing an item is raised when the consumer asks for it.
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
