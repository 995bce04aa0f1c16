"""How commands end on Ctrl-C: how soon, with which status, and what they leave behind.

    python benchmarks/reliability/stop.py --output DIR            # keeps the rows
    python benchmarks/reliability/stop.py --output DIR --n 50     # more interruptions for each command
    python benchmarks/reliability/stop.py --table                 # prints the table of docs/reliability.md

Each run is stopped at a random moment by SIGINT or SIGTERM, which goes to the whole process group as from a
terminal. Slides are synthetic. After all runs of a command, it is run once more to its end. Rows are in
docs/reliability/stop.csv.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardmil.files.csv_table import read_table, write_table
from hardmil.phantom.cohort import write_cohort

ROWS = Path(__file__).parents[2] / "docs" / "reliability" / "stop.csv"
N_SLIDES = 24
COMMANDS = {
    "patch": ("patch", "STUDY"),
    "patch, 2 workers": ("patch", "STUDY", "--workers", "2"),
    "encode": ("encode", "STUDY"),
    "encode, 2 workers": ("encode", "STUDY", "--workers", "2"),
    "train": ("train", "STUDY", "--set", "training.epochs=3"),
    "evaluate": ("evaluate", "STUDY", "--set", "training.epochs=3"),
    "predict": ("predict", "STUDY/bundle", "--slides", "STUDY/slides.csv", "--output", "STUDY/answers"),
}
OUTPUTS = ("patches", "features_stain-statistics", "bundle", "runs", "answers")
SETTINGS = """positive: positive
encode: stain-statistics
arm: ours
patches: {size_px: 32, um_per_px: 1.0, tissue: {drop_pen: false}}
evaluation: {arms: [ours, abmil], folds: 3}
"""
LIMIT_S = 60.0
"""A command that has not ended by then counts as hanging."""


@dataclass(frozen=True)
class Ending:
    """How a run ended: its status, the seconds from signal to end, and whether it said how to go on."""

    status: int
    seconds: float
    said_so: bool


@dataclass(frozen=True)
class StopRow:
    """A command that was stopped several times: a row of stop.csv.

    `clean` counts runs that ended by the signal, `said` those that said how to go on, and `left` the drafts
    and locks that they left. `completes` is 1 if the command then ran to its end.
    """

    command: str
    stopped: int
    clean: int
    said: int
    median_s: float
    longest_s: float
    left: int
    completes: int


def stop_once(call: list[str], *, after_s: float, number: signal.Signals) -> Ending | None:
    """Start a command, stop it; None where it was done before."""
    process = subprocess.Popen(
        call, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    time.sleep(after_s)
    if process.poll() is not None:
        return None
    sent = time.perf_counter()
    os.killpg(process.pid, number)
    try:
        _, err = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return Ending(-int(signal.SIGKILL), LIMIT_S, said_so=False)
    if process.returncode == 0:
        return None
    said_so = "run the same command to continue" in err
    return Ending(process.returncode, time.perf_counter() - sent, said_so)


def left_behind(study: Path) -> int:
    """Drafts and locks in a study."""
    return sum(1 for path in study.rglob(".*") if path.is_file() and path.name != ".written.json")


def measure(name: str, study: Path, *, n: int, rng: random.Random) -> StopRow:
    """Stop a command n times."""
    call = [
        sys.executable,
        "-m",
        "hardmil.cli",
        *(part.replace("STUDY", str(study)) for part in COMMANDS[name]),
    ]
    started = time.perf_counter()
    whole = subprocess.run(call, capture_output=True, text=True, check=False)
    whole_s = time.perf_counter() - started
    if whole.returncode:
        raise SystemExit(f"{name}: {whole.stderr}")
    kept = {"predict": "answers", "train": "bundle", "evaluate": "runs"}.get(name.partition(",")[0])
    folder = kept or {"patch": "patches", "encode": "features_stain-statistics"}[name.partition(",")[0]]
    endings: list[Ending] = []
    n_left = 0
    while len(endings) < n:
        shutil.rmtree(study / folder)
        number = rng.choice([signal.SIGINT, signal.SIGTERM])
        ending = stop_once(call, after_s=rng.uniform(0.0, whole_s), number=number)
        if ending is not None:
            endings.append(ending)
            n_left += left_behind(study)
        (study / folder).mkdir(exist_ok=True)
    again = subprocess.run(call, capture_output=True, check=False).returncode
    seconds = np.array([one.seconds for one in endings])
    return StopRow(
        command=name,
        stopped=n,
        clean=sum(one.status in (130, 143, -int(signal.SIGTERM), -int(signal.SIGINT)) for one in endings),
        said=sum(one.said_so for one in endings),
        median_s=round(float(np.median(seconds)), 2),
        longest_s=round(float(seconds.max()), 2),
        left=n_left,
        completes=int(again == 0),
    )


def table(rows: Sequence[StopRow]) -> list[str]:
    """The table of the page."""
    heads = ("command", "stopped", "ended by it", "said how to go on", "median s", "longest s")
    return [
        f"| {' | '.join((*heads, 'left behind', 'then completes'))} |",
        f"|{'---|' * 8}",
        *(
            f"| {row.command} | {row.stopped} | {row.clean} | {row.said} | {row.median_s:.2f} | "
            f"{row.longest_s:.2f} | {row.left} | {'yes' if row.completes else 'no'} |"
            for row in rows
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("stop"), help="working folder")
    parser.add_argument("--n", type=int, default=20, help="interruptions of each command")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS), help="which")
    parser.add_argument("--table", action="store_true", help="print the table of the kept rows")
    options = parser.parse_args()
    if options.table:
        print("\n".join(table(read_table(ROWS, StopRow))))
        return
    study, rng = options.output / "study", random.Random(0)
    if not study.exists():
        write_cohort(study, n_train=N_SLIDES, n_test=0, seed=0)
        (study / "study.yaml").write_text(SETTINGS, encoding="utf-8")
    for name in options.commands:
        kept = {row.command: row for row in read_table(ROWS, StopRow)}
        kept[name] = measure(name, study, n=options.n, rng=rng)
        write_table(ROWS, [kept[one] for one in COMMANDS if one in kept], row=StopRow)


if __name__ == "__main__":
    main()
