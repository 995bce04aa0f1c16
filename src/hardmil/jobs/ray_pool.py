"""A pool of Ray workers: on a running cluster, or on a Ray started on this machine."""

import logging
import os
import socket
from typing import Any, Generic

from hardmil.errors import ConfigError
from hardmil.jobs.pool import Engine, Item, Job, JobOutcome, Result, WorkerDied, work

CONNECT_TIMEOUT_S = 10.0


class Cluster(Generic[Item, Result]):
    """A pool of Ray tasks; the job is stored once in Ray's object store, and Ray queues the items.

    Ray's own retries are off: the schedule counts deaths, as for processes.
    """

    def __init__(self, job: Job[Any, Item, Result], *, engine: Engine):
        self._ray = _connect(engine)
        cpus = 1 if engine.address else engine.threads
        # One CPU for each thread: Ray sets OMP_NUM_THREADS of a worker to the CPUs of its task.
        self._work = self._ray.remote(num_cpus=cpus, max_retries=0)(work)
        self._job = self._ray.put(job)
        self._busy: dict[Any, Item] = {}

    def is_free(self) -> bool:
        """Always true: Ray queues items until a worker is free."""
        return True

    def start(self, item: Item) -> None:
        """Submit an item to Ray."""
        self._busy[self._work.remote(self._job, item)] = item

    def wait(self) -> list[tuple[Item, JobOutcome[Result]]]:
        """The items that have ended since the last call, at least one."""
        ready, _ = self._ray.wait(list(self._busy), num_returns=1)
        return [(self._busy.pop(one), self._outcome(one)) for one in ready]

    def close(self) -> None:
        """Cancel the running items and disconnect; a Ray started here ends, a cluster goes on."""
        for one in self._busy:
            self._ray.cancel(one, force=True)
        self._ray.shutdown()

    def stop(self) -> None:
        """The same as `close`; workers of a cluster that go on finish or leave drafts."""
        self.close()

    def _outcome(self, one: Any) -> JobOutcome[Result]:
        try:
            return self._ray.get(one)
        except self._ray.exceptions.RayError as error:
            return WorkerDied(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")


def _connect(engine: Engine) -> Any:
    """The module `ray`, connected to the cluster or to a Ray started here.

    Raises:
        ConfigError: If Ray is not installed, or does not answer at the address.
    """
    # Send no usage statistics unless the user turns them on.
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
            f"--address {engine.address}: Ray does not answer there ({str(error).splitlines()[0]}); expected "
            "HOST:PORT of a head node started with `ray start --head`, and RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN if it requires a token (the default); leave --address out to start Ray here"
        ) from error
    return ray


def _check_reachable(address: str) -> None:
    """Raise OSError if nothing listens at HOST:PORT; Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
