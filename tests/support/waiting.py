"""Waiting for another thread or process."""

import time
from collections.abc import Callable

LIMIT_S = 120.0


def wait_until(condition: Callable[[], bool], *, limit_s: float = LIMIT_S) -> None:
    """Return as soon as the condition holds; fail if it does not within a limit that suits a busy machine."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"nothing happened in {limit_s:g} s"
        time.sleep(0.02)
