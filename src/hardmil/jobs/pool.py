"""Where work is done, and what any pool of workers can do."""

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
    """Processes of this machine, or Ray: that at `address`, or one started here with as many workers."""

    kind: Literal["local", "ray"] = "local"
    workers: int = 1
    address: str | None = None

    @property
    def is_here(self) -> bool:
        """Whether all is done in this very process, one item after the other."""
        return self.kind == "local" and self.workers == 1

    @property
    def threads(self) -> int:
        """Threads of each worker: its share of this machine's cores, or fewer if OMP_NUM_THREADS says so."""
        share = max(1, _n_cores() // self.workers)
        asked = os.environ.get("OMP_NUM_THREADS", "")
        return min(share, int(asked)) if asked.isdecimal() and int(asked) > 0 else share


LOCAL = Engine()


def find_engine(kind: str = "local", *, workers: int = 1, address: str | None = None) -> Engine:
    """The engine of this name.

    Raises:
        ConfigError: If there is no such engine, no worker, or an address without Ray.
    """
    if kind not in KINDS:
        raise ConfigError(f"--engine {kind}: no such engine, expected {' or '.join(KINDS)}")
    if workers < 1:
        raise ConfigError(f"--workers {workers}: expected 1 or more")
    if kind == "local" and address is not None:
        raise ConfigError(f"--address {address}: only Ray has one; add --engine ray, or leave it out")
    return Engine("ray" if kind == "ray" else "local", workers, address)


@dataclass(frozen=True)
class Job(Generic[Shared, Item, Result]):
    """What is done with every item; shipped to a worker once, with all that the items share.

    A function known by its module's name, so that another process can find it. Errors in `stops` end the run.
    """

    function: Callable[[Shared, Item], Result]
    shared: Shared
    name: Callable[[Item], str]
    stops: tuple[type[HardmilError], ...]
    limit_s: float | None = None


@dataclass(frozen=True)
class WorkerDied:
    """A worker ended before its item was done: killed, out of memory, its machine gone."""

    how: str


Outcome = Done[Result] | Failure | WorkerDied | HardmilError


@runtime_checkable
class Pool(Protocol[Item, Result]):
    """Workers that take one item each."""

    def is_free(self) -> bool:
        """Whether an item can be started now."""
        ...

    def start(self, item: Item) -> None:
        """Give an item to a worker."""
        ...

    def wait(self) -> list[tuple[Item, Outcome[Result]]]:
        """The items that have ended since the last call, at least one; to be called if one was started."""
        ...

    def close(self) -> None:
        """End all workers at once, whatever they do."""
        ...


def work(job: Job[Any, Item, Result], item: Item) -> Done[Result] | Failure | HardmilError:
    """One item, in a worker; an error that stops the run comes back as a value."""
    try:
        function = partial(job.function, job.shared)
        return attempt(function, item, name=job.name(item), stops=job.stops, limit_s=job.limit_s)
    except HardmilError as error:
        return error


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
