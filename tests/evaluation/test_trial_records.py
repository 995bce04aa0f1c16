import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.evaluations import ARMS, CPU, make_evaluation, result_cells

from hardmil.evaluation import evaluation as evaluation_module
from hardmil.evaluation.evaluation import evaluate_arms, missing_trials, valid_rows
from hardmil.evaluation.results import CHOICES, HARD_NEGATIVES, PREDICTIONS, RESULTS, ResultRow, TrialKey
from hardmil.evaluation.trial_records import (
    import_tables,
    read_record,
    record_path,
    record_paths,
    write_record,
    write_tables,
)
from hardmil.files.csv_table import cells_of, read_cells, read_table
from hardmil.metrics import BinaryMetrics

pytestmark = pytest.mark.slow

CLASSES = ("normal", "tumour")
TABLES = (RESULTS, PREDICTIONS, HARD_NEGATIVES)
PATIENCE_S = 600


def key(arm: str = "ours", *, fold: int = 0, split: str = "case") -> TrialKey:
    return TrialKey(arm, split, "grid", 0, fold)


def put(folder: Path, trial: TrialKey, *, config_hash: str = "aa", slides: tuple[str, ...] = ("a",)) -> Path:
    result = ResultRow(trial, config_hash, 1, 0, BinaryMetrics(*[0.5] * 6))
    lines = [cells_of(trial) | {"slide_id": slide, "bag_score": "0.5"} for slide in slides]
    write_record(folder, {RESULTS: [cells_of(result)], PREDICTIONS: lines})
    return record_path(folder, trial, config_hash=config_hash)


def tabled(folder: Path) -> list[tuple[str, str, str]]:
    """Arm, fold and slide of each row of predictions.csv."""
    return [(line["arm"], line["fold"], line["slide_id"]) for line in read_cells(folder / PREDICTIONS)]


def make(folder: Path, *order: TrialKey, **hashes: str) -> None:
    known = {key(name): config_hash for name, config_hash in hashes.items()}
    write_tables(folder, hashes=known, order=order, classes=CLASSES)


def test_tables_have_the_rows_of_all_records_in_order(tmp_path: Path):
    for trial in (key(fold=1), key("gone"), key()):
        put(tmp_path, trial, slides=("a", "007"))
    make(tmp_path, key(), key(fold=1))
    expected = [
        (arm, fold, s) for arm, fold in (("gone", "0"), ("ours", "0"), ("ours", "1")) for s in ("a", "007")
    ]
    assert tabled(tmp_path) == expected
    assert [row.trial for row in read_table(tmp_path / RESULTS, ResultRow)] == [
        key("gone"),
        key(),
        key(fold=1),
    ]
    assert (tmp_path / HARD_NEGATIVES).read_text().count("\n") == 1, "a header"
    assert not (tmp_path / CHOICES).exists()


def test_trials_with_one_hash_have_records_of_their_own(tmp_path: Path):
    """The folds of two ways to split may be equal."""
    put(tmp_path, key(split="image"), slides=("a",))
    put(tmp_path, key(split="group"), slides=("b",))
    make(tmp_path)
    assert len(tabled(tmp_path)) == 2


def test_the_record_of_this_evaluation_counts_and_otherwise_the_last(tmp_path: Path):
    put(tmp_path, key(), config_hash="aa", slides=("old",))
    put(tmp_path, key(), config_hash="bb", slides=("new",))
    make(tmp_path)
    assert tabled(tmp_path) == [("ours", "0", "new")]
    make(tmp_path, ours="aa")
    assert tabled(tmp_path) == [("ours", "0", "old")]
    make(tmp_path, abmil="cc")
    assert tabled(tmp_path) == [("ours", "0", "old")], "another evaluation does not bring the other one back"


@pytest.mark.parametrize("damage", ["cut", "changed", "list", "empty", "no result"])
def test_a_damaged_record_is_no_record(tmp_path: Path, damage: str):
    path = put(tmp_path, key())
    content = json.loads(path.read_text())
    if damage == "changed":
        content["tables"][PREDICTIONS][0]["bag_score"] = "0.9"
    if damage == "no result":
        content["tables"][RESULTS] = []
    text = {"cut": path.read_text()[:-40], "list": "[]", "empty": ""}.get(damage, json.dumps(content))
    assert read_record(path) is not None
    path.write_text(text)
    assert read_record(path) is None
    make(tmp_path)
    assert tabled(tmp_path) == []


def test_a_record_written_meanwhile_is_in_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from hardmil.evaluation import trial_records

    put(tmp_path, key("first"))
    plain, left = trial_records.write_cells, ["second"]

    def slow(*positional: object, **named: object) -> None:
        plain(*positional, **named)
        if left:
            put(tmp_path, key(left.pop()))

    monkeypatch.setattr(trial_records, "write_cells", slow)
    make(tmp_path)
    assert {arm for arm, _, _ in tabled(tmp_path)} == {"first", "second"}


def test_tables_of_an_earlier_version_become_records(tmp_path: Path):
    for name in ("ours", "abmil", "lost"):
        put(tmp_path, key(name), slides=("a", "b"))
    make(tmp_path)
    before = tabled(tmp_path)
    for path in record_paths(tmp_path):
        path.unlink()
    lines = (tmp_path / PREDICTIONS).read_text().splitlines(keepends=True)
    (tmp_path / PREDICTIONS).write_text("".join(line for line in lines if not line.startswith("lost")))
    import_tables(tmp_path)
    make(tmp_path)
    assert tabled(tmp_path) == [row for row in before if row[0] != "lost"], "it has no predictions"
    (tmp_path / RESULTS).write_text("changed")
    import_tables(tmp_path)
    assert len(record_paths(tmp_path)) == 2, "where there are records, tables are not read"


def test_trials_in_tables_without_records_are_not_missing(tmp_path: Path):
    evaluation = make_evaluation(tmp_path, arms=("ours",))
    assert evaluate_arms(evaluation, device=CPU, quiet=True) == []
    for path in record_paths(tmp_path):
        path.unlink()
    assert missing_trials(evaluation) == []


@pytest.mark.parametrize("harm", ["deleted", "halved", "excel"])
def test_tables_come_back(tmp_path: Path, harm: str):
    evaluation = make_evaluation(tmp_path, arms=("ours", "ours+mb"))
    assert evaluate_arms(evaluation, device=CPU, quiet=True) == []
    before = {name: (tmp_path / name).read_bytes() for name in TABLES}
    for name, content in before.items():
        if harm == "deleted":
            (tmp_path / name).unlink()
        if harm == "halved":
            (tmp_path / name).write_bytes(content[: len(content) // 2])
        if harm == "excel":
            (tmp_path / name).write_bytes(
                content.replace(b",", b";").replace(b".", b",").decode().encode("utf-16")
            )
    assert missing_trials(evaluation) == []
    assert len(valid_rows(evaluation).predictions) == 24
    assert evaluate_arms(evaluation, device=CPU, quiet=True) == []
    assert {name: (tmp_path / name).read_bytes() for name in TABLES} == before


def test_tables_are_made_again_while_trials_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(evaluation_module, "TABLES_EVERY_S", 0.0)
    n_rows: list[int] = []
    plain = evaluation_module.make_tables

    def counted(evaluation: object) -> None:
        plain(evaluation)
        n_rows.append(len(result_cells(tmp_path)))

    monkeypatch.setattr(evaluation_module, "make_tables", counted)
    evaluate_arms(make_evaluation(tmp_path, arms=("ours",)), device=CPU, quiet=True)
    assert n_rows == [1, 2, 3, 3]


SHARED = """
import sys
from pathlib import Path
from hardmil.evaluation.evaluation import evaluate_arms
from tests.support.evaluations import ARMS, CPU, make_evaluation
folds = tuple(int(part) for part in sys.argv[2].split(","))
evaluation = make_evaluation(Path(sys.argv[1]), arms=ARMS, repeats=2, only_folds=folds)
assert evaluate_arms(evaluation, device=CPU, quiet=True) == []
"""


def start(folder: Path, folds: str) -> subprocess.Popen[bytes]:
    call = [sys.executable, "-c", SHARED, str(folder), folds]
    return subprocess.Popen(call, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_runs_that_share_a_folder_lose_nothing_even_if_killed(tmp_path: Path):
    """Three runs of different folds at once, and one that is killed and started again."""
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    runs = [start(shared, folds) for folds in ("0", "1", "2", "0,1")]
    deadline = time.monotonic() + PATIENCE_S
    wanted = random.Random(0).randint(1, 6)
    while len(record_paths(shared)) < wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    runs[0].send_signal(signal.SIGKILL)
    runs[0].wait()
    runs.append(start(shared, "0"))
    assert [run.wait(timeout=PATIENCE_S) for run in runs[1:]] == [0] * 4
    assert evaluate_arms(make_evaluation(alone, arms=ARMS, repeats=2), device=CPU, quiet=True) == []
    everything = make_evaluation(shared, arms=ARMS, repeats=2)
    assert missing_trials(everything) == []
    found, expected = result_cells(shared), result_cells(alone)
    assert sorted(map(str, found)) == sorted(map(str, expected))
    for name in TABLES[1:]:
        lines = [sorted((folder / name).read_text().splitlines()) for folder in (shared, alone)]
        assert lines[0] == lines[1], name
