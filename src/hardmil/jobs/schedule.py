"""Run items on a pool of workers, in groups; items whose worker died are retried, failures are collected."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic

from hardmil.errors import HardmilError, StoreError
from hardmil.jobs.failures import Failure
from hardmil.jobs.pool import Engine, Item, Job, Pool, Result, Shared, WorkerDied
from hardmil.jobs.progress import progress
from hardmil.jobs.run import Done, JobResults, run_jobs
from hardmil.stopping import undone_at_stop

MAX_DEATHS = 3
"""An item fails when its worker died this many times."""


def run_groups(
    function: Callable[[Shared, Item], Result],
    groups: Sequence[Sequence[Item]],
    *,
    shared: Shared,
    engine: Engine,
    name: Callable[[Item], str],
    keep: Callable[[Item, Result], None],
    label: str,
    stops: tuple[type[HardmilError], ...] = (StoreError,),
    quiet: bool = False,
) -> list[Failure]:
    """Run groups of items; the failures are returned, and results are passed to `keep` in this process.

    The items of a group share work that the first item leaves in a folder: it runs alone, and the others
    start when it is done. An item whose worker dies is run again, at most three times in total.

    Args:
        function: Called once for each item, in a worker; must be importable from a module.
        groups: Groups of hashable items; the first item of each group runs first.
        shared: What all items need; sent to each worker once.
        engine: Where the workers run.
        name: Gives the name of an item in a failure.
        keep: Called with each item and its result, in the order in which items end.
        label: Shown next to the progress bar.
        stops: Errors that end the run.
        quiet: Show no progress bar.

    Raises:
        HardmilError: One of `stops`, or if the engine is not available.
    """
    queue = _Queue([_Group(list(group)) for group in groups if group])
    job = Job(function, shared, name, stops)
    return _run(queue, job, engine=engine, keep=keep, label=label, quiet=quiet)


def run_items(
    function: Callable[[Shared, Item], Result],
    items: Sequence[Item],
    *,
    shared: Shared,
    engine: Engine,
    name: Callable[[Item], str],
    label: str,
    limit_s: float | None = None,
    quiet: bool = False,
) -> JobResults[Result]:
    """The results of independent items, in the order of the items; failures are collected.

    Args:
        function: Called once for each item, in a worker; must be importable from a module.
        items: Hashable items, each independent of the others.
        shared: What all items need; sent to each worker once.
        engine: Where the workers run; if it `is_here`, all items run in this process.
        name: Gives the name of an item in results and failures; unique.
        label: Shown next to the progress bar.
        limit_s: Seconds after which an item fails; None: no limit.
        quiet: Show no progress bar.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
        HardmilError: If the engine is not available.
    """
    if engine.is_here:
        run_here = partial(function, shared)
        return run_jobs(run_here, items, name=name, label=label, limit_s=limit_s, quiet=quiet)
    job = Job(function, shared, name, (StoreError,), limit_s)
    results: dict[str, Result] = {}

    def keep(item: Item, result: Result) -> None:
        results[name(item)] = result

    queue = _Queue([_Group(list(items), is_open=True)])
    failures = _run(queue, job, engine=engine, keep=keep, label=label, quiet=quiet)
    order = {name(item): position for position, item in enumerate(items)}
    failures.sort(key=lambda failure: order[failure.name])
    return JobResults({one: results[one] for one in order if one in results}, failures)


def _run(
    queue: "_Queue[Item]",
    job: Job[Any, Item, Result],
    *,
    engine: Engine,
    keep: Callable[[Item, Result], None],
    label: str,
    quiet: bool,
) -> list[Failure]:
    """Run all items of the queue; the failures."""
    failures: list[Failure] = []
    total = queue.n_left
    with _open_pool(job, engine=engine) as pool, progress(label, total=total, quiet=quiet) as step:
        while queue.n_left:
            while pool.is_free() and queue.start_next(pool):
                pass
            for item, outcome in pool.wait():
                match outcome:
                    case Done(result):
                        keep(item, result)
                    case Failure():
                        failures.append(outcome)
                    case WorkerDied(how):
                        if queue.put_back(item):
                            continue
                        failures.append(_died(job.name(item), how))
                    case HardmilError():
                        raise outcome
                queue.end(item, is_done=isinstance(outcome, Done))
                step()
    return failures


@dataclass
class _Group(Generic[Item]):
    """Waiting and running items. Until one is done, the group is not open and runs one item at a time."""

    waiting: list[Item]
    running: set[Item] = field(default_factory=set)
    is_open: bool = False

    def is_ready(self) -> bool:
        return bool(self.waiting) and (self.is_open or not self.running)


@dataclass
class _Queue(Generic[Item]):
    groups: list[_Group[Item]]
    deaths: Counter[Item] = field(default_factory=Counter)

    @property
    def n_left(self) -> int:
        return sum(len(group.waiting) + len(group.running) for group in self.groups)

    def start_next(self, pool: Pool[Item, Any]) -> bool:
        """Start the first item that is ready; False if none is."""
        for group in self.groups:
            if group.is_ready():
                item = group.waiting.pop(0)
                group.running.add(item)
                pool.start(item)
                return True
        return False

    def put_back(self, item: Item) -> bool:
        """Put an item whose worker died back at the front; False if that happened too often."""
        self.deaths[item] += 1
        if self.deaths[item] >= MAX_DEATHS:
            return False
        group = self._group(item)
        group.running.remove(item)
        group.waiting.insert(0, item)
        return True

    def end(self, item: Item, *, is_done: bool) -> None:
        group = self._group(item)
        group.running.remove(item)
        group.is_open = group.is_open or is_done

    def _group(self, item: Item) -> _Group[Item]:
        return next(group for group in self.groups if item in group.running)


def _died(name: str, how: str) -> Failure:
    message = (
        f"{name}: its worker died {MAX_DEATHS} times, the last time {how}; often memory ran out: run again "
        "with fewer --workers"
    )
    return Failure(name=name, message=message, traceback=f"no traceback: {message}\n")


@contextmanager
def _open_pool(job: Job[Any, Item, Result], *, engine: Engine) -> Iterator[Pool[Item, Result]]:
    """A pool of the engine's workers, stopped at the end of the block; Ray is imported only if needed."""
    match engine.kind:
        case "local":
            from hardmil.jobs.process_pool import Processes

            pool = Processes(job, workers=engine.workers, threads=engine.threads)
        case "ray":
            from hardmil.jobs.ray_pool import Cluster

            pool = Cluster(job, engine=engine)
    try:
        with undone_at_stop(pool.stop):
            yield pool
    finally:
        pool.close()
