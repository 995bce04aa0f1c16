"""Do the tests notice small faults in the core?

    python benchmarks/reliability/mutants.py --output DIR --sample 300   # a random sample; resumable
    python benchmarks/reliability/mutants.py --output DIR                # all of them; many hours
    python benchmarks/reliability/mutants.py --table        # prints the table of docs/reliability.md

Faults are put in one at a time, and the tests that run this line are run. The core is mil/, mining/,
statistics/, metrics.py and bags/folds.py, without the code that needs a GPU. The first call runs the tests
once with coverage, to learn which tests run which line. Of these, each mutant gets the quickest, at most
TESTS_S seconds of them. Rows are kept in docs/reliability/mutants.csv. The column `reason` of a mutant that
survives is written by hand: why no test can tell it from the code, or why none should.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mutations import Mutation, Required, mutated, mutations, required_arguments

from hardmil.files.csv_table import read_table, write_table

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "docs" / "reliability" / "mutants.csv"
CORE = ("mil/*.py", "mining/*.py", "statistics/*.py", "metrics.py", "bags/folds.py")
NOT_RUN_HERE = ("triton_conv.py",)
TESTS = (
    *("tests/mil", "tests/mining", "tests/statistics", "tests/evaluation", "tests/bundles"),
    *("tests/bags/test_folds.py", "tests/test_metrics.py", "tests/estimator"),
)
PYTEST = ("-q", "-x", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.egg-info")
TESTS_S, LIMIT_S = 200.0, 900.0
KILLED, SURVIVED, TIMEOUT, NOT_RUN = "killed", "survived", "timeout", "no test runs it"
SEED = 0


@dataclass(frozen=True)
class MutantRow:
    """What became of one mutant."""

    file: str
    function: str
    line: int
    before: str
    after: str
    outcome: str
    reason: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What it is, whatever the line it is on."""
        return self.file, self.function, self.before, self.after


@dataclass(frozen=True)
class Runs:
    """Which tests run which line of which file, and how long each takes, in seconds."""

    by_line: Mapping[str, Mapping[str, Sequence[str]]]
    seconds: Mapping[str, float]

    def tests_of(self, file: str, line: int) -> list[str]:
        """The quickest tests of a line, at most TESTS_S of them, but always one."""
        found = sorted(
            self.by_line.get(file, {}).get(str(line), ()), key=lambda one: self.seconds.get(one, 0.0)
        )
        total, chosen = 0.0, list[str]()
        for test in sorted(found, key=lambda one: self.seconds.get(one, 0.0)):
            total += self.seconds.get(test, 0.0)
            if chosen and total > TESTS_S:
                break
            chosen.append(test)
        return chosen


def copied_tree(folder: Path) -> Path:
    """A copy of the code and its tests, to put faults into; a fault that a stopped run left is removed."""
    tree = folder / "tree"
    for path in (tree / "src").rglob("*.py"):
        right = (ROOT / path.relative_to(tree)).read_text(encoding="utf-8")
        if path.read_text(encoding="utf-8") != right:
            path.write_text(right, encoding="utf-8")
    if not tree.exists():
        for name in ("src", "tests", "docs", "benchmarks"):
            shutil.copytree(
                ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
            )
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, tree / name)
    return tree


def learn_runs(tree: Path, folder: Path) -> Runs:
    """Run the tests once, unless it was done: which line each test runs, and how long it takes."""
    kept = folder / "runs.json"
    if not kept.exists():
        report = folder / "coverage.json"
        arguments = ("--cov", "hardmil", "--cov-context=test", f"--cov-report=json:{report}", "--durations=0")
        settings = folder / "coveragerc"
        settings.write_text("[json]\nshow_contexts = true\n", encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "pytest",
            *PYTEST,
            *arguments,
            f"--cov-config={settings}",
            "-vv",
            *TESTS,
        ]
        done = subprocess.run(command, cwd=tree, env=_environment(tree), capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"the tests fail without a mutant:\n{done.stdout[-3000:]}")
        found = {"by_line": _tests_by_line(report), "seconds": _durations(done.stdout)}
        kept.write_text(json.dumps(found), encoding="utf-8")
    content = json.loads(kept.read_text(encoding="utf-8"))
    return Runs(content["by_line"], content["seconds"])


def _environment(tree: Path) -> dict[str, str]:
    """With caches of compiled files: compiling all takes longer than most tests."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}


def _tests_by_line(report: Path) -> dict[str, dict[str, list[str]]]:
    files = json.loads(report.read_text(encoding="utf-8"))["files"]
    return {
        name.partition("src/hardmil/")[2]: {
            line: sorted({test.rpartition("|")[0] for test in tests if test})
            for line, tests in content["contexts"].items()
        }
        for name, content in files.items()
    }


def _durations(output: str) -> dict[str, float]:
    """Seconds by test, from lines such as `0.12s call tests/mil/test_losses.py::test_a`."""
    found: Counter[str] = Counter()
    for line in output.splitlines():
        parts = line.split(maxsplit=2)
        if len(parts) == 3 and parts[1] in ("call", "setup", "teardown") and parts[0].endswith("s"):
            found[parts[2]] += float(parts[0][:-1])  # type: ignore[assignment]
    return dict(found)


def run_mutant(tree: Path, *, tests: Sequence[str]) -> str:
    """The outcome of these tests in a fork of this process, which has the large libraries in memory."""
    child = os.fork()
    if child == 0:
        _run_tests(tree, tests)
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return SURVIVED if os.waitstatus_to_exitcode(status) == 0 else KILLED
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return TIMEOUT


def _run_tests(tree: Path, tests: Sequence[str]) -> None:
    """Run the tests and end this process with their status."""
    import pytest

    os.setpgid(0, 0)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.chdir(tree)
    os.environ.update(_environment(tree))
    sys.path.insert(0, str(tree / "src"))
    # A cached file of the code before would be as new as the mutant.
    sys.dont_write_bytecode = True
    status = 3
    try:
        status = int(pytest.main([*PYTEST, *tests]))
    finally:
        os._exit(status)


def preload() -> None:
    """Import what takes long: nothing of hardmil, which is mutated, and nothing that pytest rewrites."""
    import h5py
    import matplotlib
    import pydantic
    import scipy.stats
    import sklearn.cluster
    import torch

    del h5py, matplotlib, pydantic, scipy, sklearn, torch
    for name in [name for name in sys.modules if name.partition(".")[0] == "hardmil"]:
        del sys.modules[name]


def all_mutations(required: Required) -> list[tuple[str, Mutation]]:
    """Each mutation of the core with the file it is in."""
    source = ROOT / "src" / "hardmil"
    files = sorted(path for pattern in CORE for path in source.glob(pattern) if path.name not in NOT_RUN_HERE)
    return [
        (path.relative_to(source).as_posix(), one)
        for path in files
        for one in mutations(path.read_text(encoding="utf-8"), required=required)
    ]


def run(folder: Path, *, sample: int | None) -> None:
    """Run the mutants that have no row yet, in a random order that is always the same.

    Those that survived without a reason are run again first.
    """
    tree = copied_tree(folder)
    source = tree / "src" / "hardmil"
    runs = learn_runs(tree, folder)
    required = required_arguments(path.read_text(encoding="utf-8") for path in source.rglob("*.py"))
    chosen = all_mutations(required)
    random.Random(SEED).shuffle(chosen)
    preload()
    is_checked = False
    rows = {row.key: row for row in read_table(ROWS, MutantRow)} if ROWS.exists() else {}
    alive = {key for key, row in rows.items() if row.outcome == SURVIVED and not row.reason}
    again = [(file, one) for file, one in chosen if _row(file, one).key in alive]
    for number, (file, one) in enumerate([*again, *chosen[:sample]]):
        row = _row(file, one)
        if row.key in rows and row.key not in alive:
            continue
        alive.discard(row.key)
        tests = runs.tests_of(file, one.line)
        if tests and not is_checked and run_mutant(tree, tests=tests) != SURVIVED:
            raise SystemExit(f"{file}:{one.line}: its tests fail without a fault: {' '.join(tests)}")
        is_checked = True
        outcome = _outcome(source / file, one, tree=tree, tests=tests, required=required)
        rows[row.key] = replace(row, outcome=outcome)
        write_table(ROWS, sorted(rows.values(), key=lambda row: (row.file, row.line)), row=MutantRow)
        print(f"{number + 1}: {file}:{one.line} {outcome}", flush=True)


def _row(file: str, one: Mutation) -> MutantRow:
    return MutantRow(file, one.function, one.line, one.before, one.after, NOT_RUN)


def _outcome(path: Path, one: Mutation, *, tree: Path, tests: Sequence[str], required: Required) -> str:
    if not tests:
        return NOT_RUN
    text = path.read_text(encoding="utf-8")
    for cached in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
        cached.unlink()
    try:
        path.write_text(mutated(text, one.number, required=required), encoding="utf-8")
        return run_mutant(tree, tests=tests)
    finally:
        path.write_text(text, encoding="utf-8")


def table(rows: Sequence[MutantRow]) -> list[str]:
    """Mutants by part of the core, and those that survive with the reason."""
    lines = ["| part | mutants | killed | survive |", "|---|---|---|---|"]
    parts = sorted({_part(row.file) for row in rows})
    for name in parts:
        lines.append(_line(name, [row for row in rows if _part(row.file) == name]))
    lines += [_line("all", rows), ""]
    alive = [row for row in rows if row.outcome in (SURVIVED, NOT_RUN)]
    if alive:
        lines += ["| survives | change | why |", "|---|---|---|"]
        lines += [f"| `{row.file}`: `{row.function}` | {_change(row)} | {row.reason} |" for row in alive]
    return lines


def _part(file: str) -> str:
    return file.partition("/")[0] + "/" if file.startswith(("mil/", "mining/", "statistics/")) else file


def _line(name: str, rows: Sequence[MutantRow]) -> str:
    n_dead = sum(row.outcome in (KILLED, TIMEOUT) for row in rows)
    return f"| {name} | {len(rows)} | {n_dead} ({n_dead / len(rows):.1%}) | {len(rows) - n_dead} |"


def _change(row: MutantRow) -> str:
    before, after = (text.replace("|", "\\|") for text in (row.before, row.after))
    return f"`{before}` → `{after}`"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("mutants"), help="working folder")
    parser.add_argument("--sample", type=int, help="number of mutants; by default all")
    parser.add_argument("--table", action="store_true", help="print the table of the kept rows")
    options = parser.parse_args()
    if options.table:
        print("\n".join(table(read_table(ROWS, MutantRow))))
        return
    options.output.mkdir(parents=True, exist_ok=True)
    run(options.output.resolve(), sample=options.sample)


if __name__ == "__main__":
    main()
