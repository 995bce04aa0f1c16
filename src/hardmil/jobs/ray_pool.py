"""Workers of Ray: on a cluster that runs already, or on a Ray started here."""

import logging
import os
import socket
from typing import Any, Generic

from hardmil.errors import ConfigError
from hardmil.jobs.pool import Engine, Item, Job, Outcome, Result, WorkerDied, work

PATIENCE_S = 10.0


class Cluster(Generic[Item, Result]):
    """A pool of Ray tasks; the job lies once in Ray's object store, and Ray queues what does not fit.

    Ray's own retries are off: the schedule counts deaths, here as for processes.
    """

    def __init__(self, job: Job[Any, Item, Result], *, engine: Engine):
        self._ray = _started(engine)
        cpus = 1 if engine.address else engine.threads
        # A cpu is a thread: Ray sets OMP_NUM_THREADS of a worker to the cpus of its task.
        self._work = self._ray.remote(num_cpus=cpus, max_retries=0)(work)
        self._job = self._ray.put(job)
        self._busy: dict[Any, Item] = {}

    def is_free(self) -> bool:
        """Always: Ray holds an item back until there is room."""
        return True

    def start(self, item: Item) -> None:
        """Give an item to Ray."""
        self._busy[self._work.remote(self._job, item)] = item

    def wait(self) -> list[tuple[Item, Outcome[Result]]]:
        """The items that have ended, at least one."""
        ready, _ = self._ray.wait(list(self._busy), num_returns=1)
        return [(self._busy.pop(one), self._outcome(one)) for one in ready]

    def close(self) -> None:
        """End the Ray started here; at an address, leave it and what is queued there."""
        for one in self._busy:
            self._ray.cancel(one, force=True)
        self._ray.shutdown()

    def _outcome(self, one: Any) -> Outcome[Result]:
        try:
            return self._ray.get(one)
        except self._ray.exceptions.RayError as error:
            return WorkerDied(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")


def _started(engine: Engine) -> Any:
    """Ray, connected.

    Raises:
        ConfigError: If it is not installed, or there is none at the address.
    """
    # Nothing about a lab's runs leaves the house unasked.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.exceptions import RayError
    except ImportError as error:
        raise ConfigError(
            "--engine ray: Ray is not installed; install it with pip install 'hardmil[ray]', or use "
            "--engine local --workers N"
        ) from error
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if engine.address is None:
        cpus = engine.workers * engine.threads
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
        return ray
    try:
        _check_reachable(engine.address)
        ray.init(address=engine.address, **quiet)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise ConfigError(
            f"--address {engine.address}: no Ray answers there ({str(error).splitlines()[0]}); expected "
            "HOST:PORT of a head that `ray start --head` began, and if it asks for a token, as it does by "
            "default, RAY_AUTH_MODE=token and RAY_AUTH_TOKEN; leave --address out to start a Ray here"
        ) from error
    return ray


def _check_reachable(address: str) -> None:
    """Raise OSError if nobody listens at HOST:PORT; Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=PATIENCE_S).close()
