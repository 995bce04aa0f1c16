"""Long runs whose workers are killed at random: are they complete, and do memory and file handles stay flat?

    python benchmarks/reliability/soak.py --output DIR         # 2,000 trials and 500 slides with each engine
    python benchmarks/reliability/soak.py --output DIR --engines local --trials 200 --slides 50

Trials are small trainings on features, slides are small pictures. A worker is killed with SIGKILL every 2 to
6 seconds. Prints a table: what was complete at the end, rows that occur twice, workers killed, and memory
and open files of the parent process in the first and in the last quarter of the run.
"""

import argparse
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from hardmil.bags.bag import Bag
from hardmil.bags.folds import repeated_folds
from hardmil.config.study import StudyConfig
from hardmil.device import find_device
from hardmil.evaluation.arms import arm
from hardmil.evaluation.cohort import make_cohort
from hardmil.evaluation.evaluation import Evaluation, evaluate_arms, missing_trials
from hardmil.files.atomic import visible
from hardmil.files.csv_table import read_cells
from hardmil.jobs.pool import Engine
from hardmil.preprocessing.process_slides import RunOptions
from hardmil.preprocessing.study_encoding import encode_study
from hardmil.preprocessing.study_folder import open_study

ARMS = (
    "ours",
    "abmil",
    "gated",
    "mean",
    "max",
    "ours+instance",
    "ours-top5",
    "noisy-and",
    "quantile",
    "linear",
)
N_FOLDS = 10
KILL_EVERY_S = (2.0, 6.0)
SAMPLE_S = 1.0
SETTINGS = """encode: stain-statistics
patches: {size_px: 32, um_per_px: 1.0, tissue: {drop_pen: false}}
"""


@dataclass
class Watch:
    """Workers killed, and samples of memory (MiB) and open files of this process."""

    n_killed: int = 0
    memory_mib: list[float] = field(default_factory=list)
    n_files: list[int] = field(default_factory=list)

    def change(self, values: list[float] | list[int]) -> str:
        """Median of the first and of the last quarter."""
        quarter = max(1, len(values) // 4)
        return f"{np.median(values[:quarter]):.0f} to {np.median(values[-quarter:]):.0f}"


@contextmanager
def killing(seed: int) -> Iterator[Watch]:
    """In the block, kill a worker every few seconds, and take samples."""
    watch, is_over, rng = Watch(), threading.Event(), random.Random(seed)

    def run() -> None:
        due = time.monotonic() + rng.uniform(*KILL_EVERY_S)
        while not is_over.wait(SAMPLE_S):
            watch.memory_mib.append(_memory_mib())
            watch.n_files.append(len(os.listdir("/proc/self/fd")))
            if time.monotonic() >= due and (workers := _workers()):
                with suppress(ProcessLookupError):
                    os.kill(rng.choice(workers), signal.SIGKILL)
                    watch.n_killed += 1
                due = time.monotonic() + rng.uniform(*KILL_EVERY_S)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield watch
    finally:
        is_over.set()
        thread.join()


def _workers() -> list[int]:
    """Worker processes of this one: those of the pool, and Ray's that run a task."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (folder / "cmdline").read_bytes()
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            is_pool = b"spawn_main" in command and parent == str(os.getpid())
            if is_pool or command.startswith(b"ray::work"):
                found.append(int(folder.name))
    return found


def _memory_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def evaluation_of(folder: Path, *, n_trials: int) -> Evaluation:
    """Ten arms, ten folds and as many repeats as it takes, on forty small bags."""
    rng = np.random.default_rng(0)
    bags = [
        Bag(
            f"s{i}", f"c{i}", i % 2, rng.normal(size=(6, 8)).astype(np.float32), np.zeros((6, 2), np.int64), 0
        )
        for i in range(40)
    ]
    cohort = make_cohort(bags)
    n_repeats = -(-n_trials // (len(ARMS) * N_FOLDS))
    config = StudyConfig.model_validate({"network": {"embedding_dim": 4}, "training": {"epochs": 1}})
    return Evaluation(
        cohort=cohort,
        folds=repeated_folds(cohort.labels, cohort.cases, n_folds=N_FOLDS, n_repeats=n_repeats, seed=0),
        arms=[arm(name, study=config, kind="features") for name in ARMS],
        classes=("normal", "tumour"),
        folder=folder,
        split="case",
        patches="features",
        seed=0,
    )


def soak_trials(folder: Path, *, engine: Engine, n: int) -> str:
    """A line of the table."""
    evaluation = evaluation_of(folder, n_trials=n)
    total = len(evaluation.trials())
    with killing(1) as watch:
        runs = _until(lambda: evaluate_arms(evaluation, device=find_device("cpu"), engine=engine, quiet=True))
    keys = [(row["arm"], row["repeat"], row["fold"]) for row in read_cells(folder / "results.csv")]
    complete = total - len(missing_trials(evaluation))
    return _line(f"trials, {engine.kind}", complete, total, len(keys) - len(set(keys)), runs, watch)


def soak_slides(folder: Path, *, engine: Engine, n: int) -> str:
    """A line of the table."""
    _write_slides(folder, n=n)
    study = open_study(folder)
    with killing(2) as watch:
        runs = _until(lambda: encode_study(study, options=RunOptions(engine, quiet=True)).failures)
    # Without the drafts of killed workers, which the next run on the folder removes.
    files = list(visible((folder / "features_stain-statistics").glob("*.h5")))
    return _line(f"slides, {engine.kind}", len(files), n, 0, runs, watch)


def _until(run: Callable[[], object]) -> int:
    """Run again while items fail, as a user would: an item fails when its worker died three times."""
    for number in range(1, 6):
        if not run():
            return number
    return 5


def _line(what: str, complete: int, total: int, twice: int, runs: int, watch: Watch) -> str:
    cells = (what, f"{complete} of {total}", twice, runs, watch.n_killed)
    kept = (watch.change(watch.memory_mib), watch.change(watch.n_files))
    return f"| {' | '.join(map(str, (*cells, *kept)))} |"


def _write_slides(folder: Path, *, n: int) -> None:
    rng = np.random.default_rng(0)
    (folder / "slides").mkdir(parents=True, exist_ok=True)
    lines = ["slide_id,case_id,label,path,mpp"]
    for i in range(n):
        pixels = np.clip(rng.normal((200, 130, 170), 20, (160, 224, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "slides" / f"{i:03d}.png")
        lines.append(f"{i:03d},c{i:03d},{'normal' if i % 2 else 'tumour'},slides/{i:03d}.png,0.5")
    (folder / "slides.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "study.yaml").write_text(SETTINGS, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("soak"), help="working folder")
    parser.add_argument("--trials", type=int, default=2000, help="number of trials")
    parser.add_argument("--slides", type=int, default=500, help="number of slides")
    parser.add_argument("--engines", nargs="+", choices=("local", "ray"), default=["local", "ray"])
    options = parser.parse_args()
    heads = ("what", "complete", "rows twice", "runs", "workers killed", "memory, MiB", "open files")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    for kind in options.engines:
        engine = Engine(kind, workers=2)
        print(soak_trials(options.output / kind / "trials", engine=engine, n=options.trials), flush=True)
        print(soak_slides(options.output / kind / "slides", engine=engine, n=options.slides), flush=True)


if __name__ == "__main__":
    main()
