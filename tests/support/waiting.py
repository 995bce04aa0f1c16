"""Waiting for another thread or process."""

import time
from collections.abc import Callable

PATIENCE_S = 600.0
"""How long to wait for what takes seconds on an idle machine; only a test that fails waits this long."""


def wait_until(condition: Callable[[], object], *, what: str = "what another thread or process does") -> None:
    """Return as soon as the condition holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE_S:.0f} s for {what}"
        time.sleep(0.02)
