"""Which process wrote a lock or a draft, and whether it still runs."""

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Writer:
    """A process. `boot` and `start` tell it from a later one with its number; "" where they are not known."""

    host: str
    boot: str
    pid: int
    start: str

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return self.host == socket.gethostname()

    @property
    def is_gone(self) -> bool:
        """Whether it is known to run no longer; of a process of another machine, nothing is known."""
        if not self.is_here:
            return False
        if self.boot and self.boot != _boot():
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            pass
        return self.start not in ("", _start(self.pid))


def this_process() -> Writer:
    """The process that calls."""
    pid = os.getpid()
    return Writer(socket.gethostname(), _boot(), pid, _start(pid))


@cache
def _boot() -> str:
    """Changes when the machine starts; Linux only."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _start(pid: int) -> str:
    """When a process started, in clock ticks after the machine did; Linux only."""
    with suppress(OSError, IndexError):
        # The second field is the name in brackets, which may contain anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        return fields.split()[19]
    return ""
