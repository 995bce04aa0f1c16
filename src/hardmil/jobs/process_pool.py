"""A pool of worker processes on this machine, each replaced when it dies."""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic

from hardmil.jobs.pool import Item, Job, JobOutcome, Result, WorkerDied, work
from hardmil.stopping import ended_by_signals, undo_for_good, wait_if_stopped

# Environment variables that torch, MKL and OpenBLAS read once, when they are imported.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


STOP_S = 1.0
"""How long a worker that is stopped may take to remove its drafts and locks."""


@dataclass(frozen=True, eq=False)
class _Worker:
    process: SpawnProcess
    connection: Connection

    def end(self) -> str:
        """Stop the process if it is running; how it ended, for a message."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        code = self.process.exitcode or 0
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


class Processes(Generic[Item, Result]):
    """A pool of spawned processes, started when they are needed; each receives the job once.

    It is not based on concurrent.futures, where one death ends every worker and the item it was working on is
    unknown.
    """

    def __init__(self, job: Job[Any, Item, Result], *, workers: int, threads: int):
        self._job = pickle.dumps(job)
        self._n_workers = workers
        self._threads = threads
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, tuple[_Worker, Item]] = {}
        self._lost: list[tuple[Item, WorkerDied]] = []

    def is_free(self) -> bool:
        """Whether an item can be started now."""
        return len(self._busy) + len(self._lost) < self._n_workers

    def start(self, item: Item) -> None:
        """Start an item on an idle worker, or on a new one."""
        worker = self._idle.pop() if self._idle else None
        try:
            if worker is None:
                worker = self._new()
                worker.connection.send_bytes(self._job)
            worker.connection.send(item)
        except OSError:  # the worker has closed its end of the pipe
            self._lost.append((item, WorkerDied(worker.end() if worker else "could not be started")))
        else:
            self._busy[worker.connection] = (worker, item)

    def wait(self) -> list[tuple[Item, JobOutcome[Result]]]:
        """The items that have ended since the last call, at least one."""
        ended: list[tuple[Item, JobOutcome[Result]]] = [*self._lost]
        self._lost.clear()
        for connection in wait(list(self._busy), timeout=0 if ended else None):
            worker, item = self._busy.pop(connection)  # pyright: ignore[reportArgumentType]
            try:
                outcome: JobOutcome[Result] = worker.connection.recv()
            except (EOFError, OSError):
                wait_if_stopped()
                outcome = WorkerDied(worker.end())
            else:
                self._idle.append(worker)
            ended.append((item, outcome))
        return ended

    def close(self) -> None:
        """Stop all workers immediately."""
        for worker in self._workers():
            worker.end()

    def stop(self) -> None:
        """Stop all workers; each removes its drafts and locks."""
        workers = self._workers()
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join(STOP_S)

    def _workers(self) -> list[_Worker]:
        return [*self._idle, *(worker for worker, _ in self._busy.values())]

    def _new(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with _environment_of_new_workers(self._threads):
            process.start()
        # The worker now has the only other end, so the pipe breaks when it dies.
        theirs.close()
        return _Worker(process, ours)


@contextmanager
def _environment_of_new_workers(threads: int) -> Iterator[None]:
    """Set the number of threads in the environment of new workers, for the block."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection) -> None:
    """The main loop of a worker: receive the job, then process items until the pipe is closed."""
    # Ctrl-C reaches the whole process group; each process of it removes what it has half done.
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    with ended_by_signals(), suppress(EOFError):
        job = pickle.loads(connection.recv_bytes())
        while True:
            connection.send(work(job, connection.recv()))


def _exit_with_parent() -> None:
    """Exit when the parent process ends, so that no worker goes on after a run was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        undo_for_good()
        os._exit(1)
