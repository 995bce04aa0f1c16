"""Peak memory of a process, used by the benchmarks."""

import re
from pathlib import Path


def own_peak_mb() -> float:
    """Peak memory of this process (Linux). ru_maxrss would include memory of the parent at the fork."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")
