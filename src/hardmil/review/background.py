"""A command that runs next to the server, at low priority, and ends with it."""

import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hardmil.errors import BusyError

State = Literal["not started", "running", "done", "failed", "stopped"]

MOST_LINES = 200
STOP_S = 1.0
"""How long the command may take to undo what is half done."""

# Arguments: module and its own arguments. The pipe to the server breaks however the server ends.
_LAUNCHER = """
import os, runpy, signal, sys, threading
def end_with_server():
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=end_with_server, daemon=True).start()
if hasattr(os, "nice"):
    os.nice(10)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Status:
    """How far the command is, the last lines that it printed, and how long it has been running."""

    state: State
    lines: tuple[str, ...]
    seconds: int


class BackgroundCommand:
    """A Python module with arguments, run as a process of its own, one at a time.

    Args:
        module: Run as with `python -m`.
        arguments: Its arguments.
    """

    def __init__(self, module: str, *, arguments: Sequence[str]) -> None:
        self._command = [sys.executable, "-c", _LAUNCHER, module, *arguments]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: deque[str] = deque(maxlen=MOST_LINES)
        self._is_stopped = False
        self._started = 0.0

    def start(self) -> None:
        """Start it.

        Raises:
            BusyError: If it is running.
        """
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                raise BusyError("The training is already running; wait until it has ended.")
            self._lines.clear()
            self._is_stopped = False
            self._started = time.monotonic()
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                # Ctrl-C reaches the server alone, which ends the command.
                start_new_session=True,
            )
            threading.Thread(target=self._read, args=(self._process,), daemon=True).start()

    @property
    def status(self) -> Status:
        """How far it is."""
        with self._lock:
            state = self._state()
            running = time.monotonic() - self._started if state == "running" else 0
            return Status(state, tuple(self._lines), int(running))

    def stop(self) -> None:
        """End it; it removes what is half done. Without effect if it is not running."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        self._is_stopped = True
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()

    def _state(self) -> State:
        if self._process is None:
            return "not started"
        code = self._process.poll()
        if code is None:
            return "running"
        if self._is_stopped:
            return "stopped"
        return "done" if code == 0 else "failed"

    def _read(self, process: subprocess.Popen[str]) -> None:
        # The block closes the pipes at its end.
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip():
                    with self._lock:
                        self._lines.append(line.rstrip())
