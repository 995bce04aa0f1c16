"""Damaged and forged small files of each format: what reading them does, and what it takes.

    python benchmarks/reliability/fuzz.py --output DIR   # 10 minutes for each format; keeps the rows
    python benchmarks/reliability/fuzz.py --table        # prints the table of docs/reliability.md

Each file is a valid one of at most 30 kB that was cut, spliced, or had numbers in it replaced. It is read in
a child process. A file that hardmil refuses must be named in the error. Files that end in a traceback, take
more than 2 GiB or 30 s, or end the process, are kept in DIR. Rows are in docs/reliability/fuzz.csv.
"""

import argparse
import random
import re
import resource
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from select import select

from hardmil.errors import HardmilError
from hardmil.files.csv_table import read_table, write_table

ROWS = Path(__file__).parents[2] / "docs" / "reliability" / "fuzz.csv"
FORMATS = (
    *("h5", "pt", "tiff", "png", "geojson", "yaml", "csv", "bundle.json", "safetensors"),
    *("h5ad", "zarr metadata", "zarr chunks", "parquet"),
)
MOST_MIB, MOST_S = 2048, 30.0
SAFETY_BYTES = 16 << 30
"""Address space of the child, so that a fault here does not stop the machine."""
READ, REFUSED, TRACEBACK = "read", "refused", "traceback"


@dataclass(frozen=True)
class FormatRow:
    """What became of the files of one format. `crashes` ended the process."""

    format: str
    inputs: int = 0
    read: int = 0
    refused: int = 0
    tracebacks: int = 0
    crashes: int = 0
    above_2_gib: int = 0
    above_30_s: int = 0
    largest_mib: int = 0
    longest_s: float = 0.0

    def with_input(self, outcome: str, *, seconds: float, mib: int) -> "FormatRow":
        """The row with one more file; `mib` is the peak memory of the process, libraries included."""
        return replace(
            self,
            inputs=self.inputs + 1,
            read=self.read + (outcome == READ),
            refused=self.refused + (outcome == REFUSED),
            tracebacks=self.tracebacks + (outcome == TRACEBACK),
            crashes=self.crashes + (outcome == "crash"),
            above_2_gib=self.above_2_gib + (mib > MOST_MIB),
            above_30_s=self.above_30_s + (seconds > MOST_S),
            largest_mib=max(self.largest_mib, mib),
            longest_s=max(self.longest_s, round(seconds, 1)),
        )


def child(name: str, *, seed: int, folder: Path) -> None:
    """Read damaged files until stopped; a line for each: outcome, seconds, peak MiB."""
    from fuzz_formats import FORMATS as ALL
    from fuzz_formats import damaged

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (SAFETY_BYTES, SAFETY_BYTES))
    rng, one = random.Random(seed), ALL[name]
    contents, path = list(one.contents()), folder / one.file
    print("ready", flush=True)
    while True:
        path.write_bytes(damaged(rng.choice(contents), contents, is_text=one.is_text, rng=rng))
        _forget_peak()
        start = time.monotonic()
        outcomes = [_outcome(read, path) for read in one.readers]
        outcome = REFUSED if REFUSED in outcomes else READ
        took_s, mib = time.monotonic() - start, _peak_mib()
        print(outcome, round(took_s, 3), mib, flush=True)
        if mib > MOST_MIB or took_s > MOST_S:
            return  # the file is kept


def _forget_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mib() -> int:
    """Peak memory since `_forget_peak`; on other systems than Linux, since the process began."""
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
        if found is not None:
            return int(found.group(1)) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _outcome(read: object, path: Path) -> str:
    """Whether a file was read; anything else than an error of hardmil that names it ends the process."""
    try:
        read(path)  # type: ignore[operator]
    except HardmilError as error:
        known = (path.name, path.parent.name, "s1", "s2", "safetensors")
        if any(name in str(error) for name in known) and len(str(error)) < 5000:
            return REFUSED
        print(f"unnamed or too long: {str(error)[:500]}", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    else:
        return READ
    print(TRACEBACK, 0.0, 0, flush=True)
    raise SystemExit(3)


def run(name: str, *, seconds: float, folder: Path) -> FormatRow:
    """The row of one format."""
    row, deadline, seed = FormatRow(name), time.monotonic() + seconds, 0
    folder.mkdir(parents=True, exist_ok=True)
    while time.monotonic() < deadline:
        for outcome, took_s, mib in _lines(name, seed=seed, folder=folder, deadline=deadline):
            row = row.with_input(outcome, seconds=took_s, mib=mib)
            if outcome not in (READ, REFUSED) or mib > MOST_MIB or took_s > MOST_S:
                _keep(folder, f"{outcome}-{seed}")
                break
        seed += 1
    return row


def _lines(name: str, *, seed: int, folder: Path, deadline: float) -> Iterator[tuple[str, float, int]]:
    """What a child process prints. Without a line in time, it hangs; without one at its end, it crashed."""
    command = [
        sys.executable,
        __file__,
        "--child",
        name,
        "--seed",
        str(seed),
        "--output",
        str(folder / "now"),
    ]
    (folder / "now").mkdir(exist_ok=True)
    with (folder / f"{name}-{seed}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        try:
            while time.monotonic() < deadline:
                if not select([process.stdout], [], [], MOST_S + 1)[0]:
                    yield "hang", MOST_S + 1, 0
                    return
                words = process.stdout.readline().split()
                if not words:
                    yield "crash", 0.0, 0
                    return
                yield words[0], float(words[1]), int(words[2])
        finally:
            process.kill()
            process.wait()


def _keep(folder: Path, why: str) -> None:
    for path in (folder / "now").iterdir():
        if path.is_file():
            path.rename(folder / f"{why}-{path.name}")


def table(rows: Sequence[FormatRow]) -> list[str]:
    """The table of the page."""
    return [
        "| format | files | read | refused by name | tracebacks | crashes | above 2 GiB | above 30 s | "
        "most memory | longest |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {row.format} | {row.inputs:,} | {row.read:,} | {row.refused:,} | {row.tracebacks} | "
            f"{row.crashes} | {row.above_2_gib} | {row.above_30_s} | {row.largest_mib:,} MiB | "
            f"{row.longest_s:.1f} s |"
            for row in rows
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("fuzz"), help="folder for the files that fail")
    parser.add_argument("--minutes", type=float, default=10.0, help="for each format")
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--table", action="store_true", help="print the table of the kept rows")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, seed=options.seed, folder=options.output)
        return
    if not options.table:
        for name in options.formats:
            row = run(name, seconds=60 * options.minutes, folder=options.output / name)
            rows = {one.format: one for one in read_table(ROWS, FormatRow)} | {name: row}
            write_table(ROWS, [rows[one] for one in FORMATS if one in rows], row=FormatRow)
            print("\n".join(table([row])[2:]), flush=True)
        return
    print("\n".join(table(read_table(ROWS, FormatRow))))


if __name__ == "__main__":
    main()
