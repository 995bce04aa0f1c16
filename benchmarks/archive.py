"""Time and memory of `hardmil patch` on an archive: killed half-way, resumed, and run again when finished.

Slides are hard links to a few synthetic ones; every 500th is broken. Prints wall time, CPU time and the peak
memory of the parent process.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from hardmil.phantom.slide import draw_phantom, write_phantom

WIDTH_PX, HEIGHT_PX = 1600, 1200
N_DRAWN = 4
BROKEN_EVERY = 500


def write_study(folder: Path, *, n_slides: int) -> None:
    """Write a study of n_slides links; every BROKEN_EVERY-th is a truncated file."""
    folder.mkdir(parents=True)
    drawn = [folder / f"drawn-{seed}.tif" for seed in range(N_DRAWN)]
    for seed, path in enumerate(drawn):
        slide = draw_phantom(seed, lesion=True, look_alikes=True, width_px=WIDTH_PX, height_px=HEIGHT_PX)
        write_phantom(path, slide)
    broken = folder / "broken.tif"
    broken.write_bytes(drawn[0].read_bytes()[: drawn[0].stat().st_size // 2])
    (folder / "slides").mkdir()
    rows = ["slide_id,case_id,label,path"]
    for i in range(n_slides):
        path = folder / "slides" / f"s{i:05}.tif"
        os.link(broken if i % BROKEN_EVERY == BROKEN_EVERY - 1 else drawn[i % N_DRAWN], path)
        rows.append(f"s{i:05},c{i:05},{i % 2},slides/{path.name}")
    (folder / "slides.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "study.yaml").write_text("patches: {size_px: 32, um_per_px: 1.0}\n", encoding="utf-8")


def run(folder: Path, *, workers: int, kill_after_s: float | None = None) -> str:
    """Run `hardmil patch` once; a Markdown row of the result."""
    command = [
        sys.executable,
        "-m",
        "hardmil.cli",
        "patch",
        str(folder),
        "--quiet",
        "--workers",
        str(workers),
    ]
    before, start, peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0.0
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while child.poll() is None:
        peak_mb = max(peak_mb, _peak_mb(child.pid))
        if kill_after_s is not None and time.perf_counter() - start > kill_after_s:
            child.kill()
        time.sleep(0.2)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    n_done = len(list((folder / "patches").glob("*_patches.h5")))
    return (
        f"| {workers} | {seconds:.0f} | {processor_s:.0f} | {n_done} | {peak_mb:.0f} | {child.returncode} |"
    )


def _peak_mb(pid: int) -> float:
    """Peak memory of a process; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if "VmHWM" in line), 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder of the study; must not exist")
    parser.add_argument("--slides", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill-after-s", type=float, default=60.0)
    options = parser.parse_args()
    write_study(options.output, n_slides=options.slides)
    print("| workers | s | CPU s | slides done | peak MB of parent | exit |\n|---|---|---|---|---|---|")
    print(run(options.output, workers=options.workers, kill_after_s=options.kill_after_s), flush=True)
    for workers in (options.workers, options.workers, 1):
        print(run(options.output, workers=workers), flush=True)
    locks = len(list((options.output / "patches").rglob("*.lock")))
    print(f"\nlock files left: {locks}")


if __name__ == "__main__":
    main()
