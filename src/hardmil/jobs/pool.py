"""Where work runs, and the interface of a pool of workers."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

from hardmil.errors import ConfigError, HardmilError
from hardmil.jobs.failures import Failure
from hardmil.jobs.run import Done, attempt

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")

KINDS = ("local", "ray")


@dataclass(frozen=True)
class Engine:
    """Processes on this machine, or Ray: the cluster at `address`, or a local Ray with `workers` workers.

    `population` is the number of networks that this process trains at once, where it trains; None: see
    `population_size`.
    """

    kind: Literal["local", "ray"] = "local"
    workers: int = 1
    address: str | None = None
    population: int | None = None

    @property
    def is_here(self) -> bool:
        """Whether all items run in this process, one after the other."""
        return self.kind == "local" and self.workers == 1

    @property
    def threads(self) -> int:
        """Threads of each worker: its share of the cores, or OMP_NUM_THREADS if that is fewer."""
        share = max(1, _n_cores() // self.workers)
        limit = os.environ.get("OMP_NUM_THREADS", "")
        return min(share, int(limit)) if limit.isdecimal() and int(limit) > 0 else share


LOCAL = Engine()


def find_engine(
    kind: str = "local", *, workers: int = 1, address: str | None = None, population: int | None = None
) -> Engine:
    """The engine with this name.

    Raises:
        ConfigError: If the name is unknown, a number is below 1, an address is given without Ray, or a
            population with several workers.
    """
    if kind not in KINDS:
        raise ConfigError(f"--engine {kind}: unknown engine; expected {' or '.join(KINDS)}")
    if workers < 1:
        raise ConfigError(f"--workers {workers}: expected 1 or more")
    if kind == "local" and address is not None:
        raise ConfigError(f"--address {address}: only Ray has an address; add --engine ray, or leave it out")
    if population is not None and population < 1:
        raise ConfigError(f"--population {population}: expected 1 or more")
    if population is not None and (kind != "local" or workers > 1):
        raise ConfigError(
            f"--population {population}: trains in one process; expected no --workers and no --engine ray; "
            "leave one of them out"
        )
    return Engine("ray" if kind == "ray" else "local", workers, address, population)


@dataclass(frozen=True)
class Job(Generic[Shared, Item, Result]):
    """The function to run on every item, and what the items share; sent to each worker once.

    The function must be importable from a module, so that another process can load it. Errors in `stops` end
    the run.
    """

    function: Callable[[Shared, Item], Result]
    shared: Shared
    name: Callable[[Item], str]
    stops: tuple[type[HardmilError], ...]
    limit_s: float | None = None


@dataclass(frozen=True)
class WorkerDied:
    """A worker ended before its item was done: it was killed, ran out of memory, or its machine is gone."""

    how: str


JobOutcome = Done[Result] | Failure | WorkerDied | HardmilError


@runtime_checkable
class Pool(Protocol[Item, Result]):
    """Workers that process one item each at a time."""

    def is_free(self) -> bool:
        """Whether an item can be started now."""
        ...

    def start(self, item: Item) -> None:
        """Start an item on a worker."""
        ...

    def wait(self) -> list[tuple[Item, JobOutcome[Result]]]:
        """The items that have ended since the last call, at least one; call it only while items run."""
        ...

    def close(self) -> None:
        """Stop all workers immediately."""
        ...

    def stop(self) -> None:
        """Stop all workers, so that they leave nothing half done; for `undone_at_stop`."""
        ...


def work(job: Job[Any, Item, Result], item: Item) -> Done[Result] | Failure | HardmilError:
    """The outcome of one item, in a worker; an error that stops the run is returned, not raised."""
    try:
        function = partial(job.function, job.shared)
        return attempt(function, item, name=job.name(item), stops=job.stops, limit_s=job.limit_s)
    except HardmilError as error:
        return error


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
