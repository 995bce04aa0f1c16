"""Peak memory of a process, for the benchmarks."""

import re
from pathlib import Path


def own_peak_mb() -> float:
    """Of this process alone: ru_maxrss would count what its parent held when it was started. Linux."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")
