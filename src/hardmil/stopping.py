"""Ctrl-C and SIGTERM: the process undoes what is half done, says how far it was, and ends at once.

Python's own way, an exception wherever the program happens to be, can be lost in a callback, waits for
threads that read from a slow disk, and unloads libraries that are still in use.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from itertools import count
from typing import TypeVar

LIMIT_S = 1.5
"""Seconds that undoing may take: a disk that does not answer must not hold the process."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)

Value = TypeVar("Value")

_undos: dict[int, Callable[[], object]] = {}
_progress: dict[int, Callable[[], str]] = {}
_numbers = count()
_stopper: list[int] = []
"""The thread that ends the process, once there is one; all others wait where they begin or end a block."""


@contextmanager
def undone_at_stop(undo: Callable[[], object]) -> Iterator[None]:
    """In the block, `undo` is called if the process is stopped; it must not need other threads."""
    with _listed(_undos, undo):
        yield


@contextmanager
def told_at_stop(how_far: Callable[[], str]) -> Iterator[None]:
    """In the block, the text of `how_far` is what a stopped process says of its progress."""
    with _listed(_progress, how_far):
        yield


def undo_all() -> None:
    """Call what `undone_at_stop` has listed, the last first; the process has to be ended afterwards."""
    while _undos:
        _, undo = _undos.popitem()
        with suppress(OSError, RuntimeError, ValueError):
            undo()


def undo_for_good() -> None:
    """The same, and no other thread begins or ends a listed block any more."""
    _stopper.append(threading.get_ident())
    undo_all()


def wait_if_stopped() -> None:
    """Wait for the end, if another thread is ending the process."""
    if _stopper and threading.get_ident() not in _stopper:
        threading.Event().wait()


def how_far() -> str:
    """How far the process is, such as "encoding: 18 of 40"; empty if nothing said so."""
    told = list(_progress.values())
    return told[-1]() if told else ""


@contextmanager
def ended_by_signals(tell: Callable[[str], None] = lambda text: None) -> Iterator[None]:
    """In the block, Ctrl-C and SIGTERM end the process: undo, `tell` how far it was, exit 130 or 143.

    A thread does it, so that it does not matter what the main thread is waiting for. Without effect outside
    the main thread, where Python cannot handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    # A handler has to be there: without one, the signal does not reach the descriptor.
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    descriptor = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    # With the context of this thread: `tell` may use what the command line has set there.
    run = copy_context().run
    threading.Thread(target=run, args=(_end_at_signal, reading, tell), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        writing.close()  # ends the thread


def _end_at_signal(reading: socket.socket, tell: Callable[[str], None]) -> None:
    with reading:
        while content := reading.recv(1):
            if content[0] in SIGNALS:
                break
        else:
            return
    text = how_far()
    undoing = threading.Thread(target=undo_for_good, daemon=True)
    undoing.start()
    undoing.join(LIMIT_S)
    with suppress(OSError, ValueError):
        tell(text)
        sys.stderr.flush()
    os._exit(128 + content[0])


@contextmanager
def _listed(listing: dict[int, Callable[[], Value]], entry: Callable[[], Value]) -> Iterator[None]:
    wait_if_stopped()
    number = next(_numbers)
    listing[number] = entry
    try:
        yield
    finally:
        wait_if_stopped()
        listing.pop(number, None)
