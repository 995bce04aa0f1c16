"""Evaluations in this process: the trials that run, their tables, and runs that were killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.evaluations import (
    ARMS,
    CPU,
    bags_of_two_slides_a_case,
    make_evaluation,
    result_cells,
)
from tests.support.processes import DIES_AT_A_RENAME

from hardmil.bags.bag import Bag
from hardmil.bags.folds import Fold
from hardmil.errors import FoldError
from hardmil.evaluation import evaluation as evaluation_module
from hardmil.evaluation import trainer as trainer_module
from hardmil.evaluation.attention_file import read_attention
from hardmil.evaluation.evaluation import Evaluation, evaluate_arms, valid_rows
from hardmil.evaluation.results import (
    METRICS,
    ChoiceRow,
    HardNegativeRow,
    PredictionRow,
    ResultRow,
    TrialKey,
    key_of,
)
from hardmil.evaluation.trial import Trial, TrialResult, run_trial
from hardmil.evaluation.trial_records import record_paths
from hardmil.files.csv_table import read_table
from hardmil.metrics import binary_metrics
from hardmil.mil.network import BagClassifier
from hardmil.mil.training import fit
from hardmil.mining import procedure as procedure_module
from hardmil.mining.hard_instances import HardInstance
from hardmil.mining.procedure import Mined, train_and_mine


def _run(evaluation: Evaluation) -> None:
    assert evaluate_arms(evaluation, device=CPU, quiet=True) == []


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """The trials that are really run."""
    names: list[tuple[str, int, int]] = []

    def counted(trial: Trial, **rest: Any) -> TrialResult:
        names.append((trial.arm.name, trial.repeat, trial.fold_number))
        return run_trial(trial, **rest)

    monkeypatch.setattr(evaluation_module, "run_trial", counted)
    return names


def test_mining_arms_and_controls_share_one_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    n_fits: list[bool] = []

    def counted(bags: Any, **rest: Any) -> BagClassifier:
        n_fits.append(rest["extras"] is not None)
        return fit(bags, **rest)

    monkeypatch.setattr(trainer_module, "fit", counted)
    _run(make_evaluation(tmp_path, arms=ARMS))
    assert len(result_cells(tmp_path)) == 15
    assert sorted(n_fits) == [False] * 3 + [True] * 12


def test_a_trial_has_one_key_in_all_tables(tmp_path: Path):
    trial = make_evaluation(tmp_path, only_folds=(2,)).trials()[1]
    assert make_evaluation(tmp_path).key(trial) == TrialKey("ours+mb", "case", "features", 0, 2)


def test_the_tables_agree_with_one_another(tmp_path: Path):
    evaluation = make_evaluation(tmp_path, arms=("ours", "ours+fmb-oof", "ours+fmb-oof@random"), repeats=2)
    _run(evaluation)
    results = read_table(tmp_path / "results.csv", ResultRow)
    predictions = read_table(tmp_path / "predictions.csv", PredictionRow)
    mined = read_table(tmp_path / "hard_negatives.csv", HardNegativeRow)
    assert len(results) == 3 * 2 * 3
    assert len(predictions) == 3 * 2 * 12
    by_id = {bag.slide_id: bag for bag in evaluation.cohort.bags}
    for row in results:
        tested = [one for one in predictions if one.trial == row.trial]
        fold = evaluation.folds[row.trial.repeat][row.trial.fold]
        assert [one.slide_id for one in tested] == [f"s{i}" for i in fold.test]
        labels = np.array([int(one.label == "tumour") for one in tested])
        metrics = binary_metrics(labels, np.array([one.bag_score for one in tested]))
        for metric in METRICS:
            np.testing.assert_allclose(getattr(row.metrics, metric), getattr(metrics, metric), rtol=1e-6)
        found = [one.mined for one in mined if one.trial == row.trial]
        assert len(found) == row.n_hard
        assert (len(found) > 0) == (row.trial.arm != "ours") == (row.n_false_positive_bags > 0)
        training = {f"s{i}" for i in fold.train}
        for one in found:
            bag = by_id[one.slide_id]
            assert one.slide_id in training
            assert (one.case_id, bag.label) == (bag.case_id, 0)
            assert [one.x, one.y] == bag.coords[one.instance].tolist()
        assert row.seconds > 0


def test_attention_of_the_test_bags_is_kept(tmp_path: Path):
    evaluation = make_evaluation(tmp_path)
    _run(evaluation)
    for row in read_table(tmp_path / "results.csv", ResultRow):
        for i in evaluation.folds[0][row.trial.fold].test:
            path = tmp_path / "trials" / row.config_hash / "attention.h5"
            attention, coords = read_attention(path, slide_id=f"s{i}")
            assert attention.sum() == pytest.approx(1, abs=1e-6)
            np.testing.assert_array_equal(coords, evaluation.cohort.bags[i].coords)


def test_what_is_finished_is_skipped(tmp_path: Path, ran: list[tuple[str, int, int]]):
    _run(make_evaluation(tmp_path))
    assert len(ran) == 6
    before = (tmp_path / "results.csv").read_text()
    _run(make_evaluation(tmp_path))
    assert len(ran) == 6
    assert (tmp_path / "results.csv").read_text() == before
    _run(make_evaluation(tmp_path, arms=("ours", "ours+sb", "ours+mb")))
    assert ran[6:] == [("ours+sb", 0, fold) for fold in range(3)]


def _with_a_changed_bag() -> list[Bag]:
    first, *rest = bags_of_two_slides_a_case()
    return [replace(first, instances=first.instances + 1), *rest]


@pytest.mark.parametrize(
    ("changes", "n_again"),
    [
        ({"seed": 8}, 6),
        ({"study": {"training": {"epochs": 1}}}, 6),
        ({"study": {"mining": {"threshold": 0.0, "n_bags": 2}}}, 3),
        ({"bags": _with_a_changed_bag()}, 6),
        ({}, 0),
    ],
    ids=["seed", "epochs", "mining", "data", "same"],
)
def test_trials_with_other_settings_or_data_run_again(
    changes: dict[str, Any], n_again: int, tmp_path: Path, ran: list[tuple[str, int, int]]
):
    _run(make_evaluation(tmp_path))
    before = result_cells(tmp_path)
    _run(make_evaluation(tmp_path, **changes))
    assert len(ran) - 6 == n_again
    after = result_cells(tmp_path)
    assert len(after) == 6
    assert sum(row not in before for row in after) == n_again
    assert len(read_table(tmp_path / "predictions.csv", PredictionRow)) == 24


def test_only_some_folds(tmp_path: Path, ran: list[tuple[str, int, int]]):
    _run(make_evaluation(tmp_path, repeats=2, only_folds=(2, 0)))
    expected = [(name, repeat, fold) for repeat in (0, 1) for fold in (0, 2) for name in ("ours", "ours+mb")]
    assert ran == expected
    _run(make_evaluation(tmp_path, repeats=2))
    assert len(ran) == 12
    with pytest.raises(FoldError, match="fold 3: there are 3 folds"):
        _run(make_evaluation(tmp_path, only_folds=(0, 3)))


def test_seeds_differ_between_folds_and_repeats_and_not_between_arms(tmp_path: Path):
    trials = make_evaluation(tmp_path, arms=ARMS, repeats=2).trials()
    seeds = {(trial.repeat, trial.fold_number): trial.seed for trial in trials}
    assert len(set(seeds.values())) == len(seeds) == 6
    assert all(trial.seed == seeds[trial.repeat, trial.fold_number] for trial in trials)
    assert not set(seeds.values()) & {trial.seed for trial in make_evaluation(tmp_path, seed=8).trials()}


def test_valid_rows_leave_out_what_is_stale(tmp_path: Path):
    old = make_evaluation(tmp_path, arms=("ours", "ours+mb"))
    _run(old)
    rows = valid_rows(old)
    assert (len(rows.results), len(rows.predictions)) == (6, 24)
    assert [(row.trial.arm, row.trial.fold) for row in rows.results[:3]] == [
        ("ours", 0),
        ("ours", 1),
        ("ours", 2),
    ]
    assert {key_of(row).arm for row in rows.hard_negatives} == {"ours+mb"}
    new = make_evaluation(
        tmp_path, arms=("ours", "ours+mb"), study={"mining": {"threshold": 0.0, "n_bags": 2}}
    )
    rows = valid_rows(new)
    assert {row.trial.arm for row in rows.results} == {"ours"}
    assert {key_of(row).arm for row in rows.predictions} == {"ours"}
    assert rows.hard_negatives == []
    _run(replace(new, only_folds=(1,)))
    rows = valid_rows(replace(new, only_folds=(0,)))
    assert [row.trial.fold for row in rows.results if row.trial.arm == "ours+mb"] == [1]
    assert len(rows.predictions) == 12 + 4
    assert len(valid_rows(old).results) == 6, "records stay"


def test_valid_rows_of_further_arms(tmp_path: Path):
    _run(make_evaluation(tmp_path, arms=("ours", "ours+mb")))
    one = make_evaluation(tmp_path, arms=("ours",))
    assert {row.trial.arm for row in valid_rows(one).results} == {"ours"}
    also = make_evaluation(tmp_path, arms=("ours+sb", "ours+mb")).arms
    assert [row.trial.arm for row in valid_rows(one, also=also).results] == ["ours"] * 3 + ["ours+mb"] * 3


def test_a_case_on_both_sides_is_refused_before_anything_is_trained(
    tmp_path: Path, ran: list[tuple[str, int, int]]
):
    good = make_evaluation(tmp_path)
    leaking = Fold(train=np.arange(0, 9), test=np.arange(9, 12))  # slides 8 and 9 are of case c4
    with pytest.raises(FoldError, match="fold 1: case c4 is in train and in test"):
        _run(replace(good, folds=[[good.folds[0][0], leaking]]))
    assert ran == []


def test_an_instance_mined_outside_the_training_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    evaluation = make_evaluation(tmp_path, arms=("ours+mb",))

    def leaking(bags: Sequence[Bag], **rest: Any) -> Mined:
        inside = {bag.slide_id for bag in bags}
        bag = next(bag for bag in evaluation.cohort.bags if bag.slide_id not in inside)
        planted = HardInstance(1, bag.slide_id, bag.case_id, 4, 0, 0, 16, 0.9, 0.9, 0, "train")
        mined = train_and_mine(bags, **rest)
        return replace(mined, pool=(*mined.pool, planted))

    monkeypatch.setattr(procedure_module, "train_and_mine", leaking)
    message = r"arm ours\+mb, fold 0: instance 4 of slide s\d+, mined, comes from case c\d, which is not in"
    with pytest.raises(FoldError, match=message):
        _run(evaluation)
    assert read_table(tmp_path / "results.csv", ResultRow) == []


KILLED = f"""{DIES_AT_A_RENAME}
from hardmil.evaluation.evaluation import evaluate_arms
from tests.support.evaluations import ARMS, CPU, make_evaluation
assert evaluate_arms(make_evaluation(folder, arms=ARMS), device=CPU, quiet=True) == []
"""


def _run_and_kill(folder: Path, *, after: int) -> int:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(after)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    return done.returncode


def test_a_killed_evaluation_continues_where_it_was(tmp_path: Path, ran: list[tuple[str, int, int]]):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    _run(make_evaluation(whole, arms=ARMS))
    # Names are taken, trial by trial: weights, attention, record; three tables after the first.
    for after, n_records in ((3, 0), (6, 1), (5, 2)):
        assert _run_and_kill(killed, after=after) == -signal.SIGKILL
        assert len(record_paths(killed)) == n_records, after
    ran.clear()
    _run(make_evaluation(killed, arms=ARMS))
    assert len(ran) == 15 - 2  # the hashes of another process hold here
    assert result_cells(killed) == result_cells(whole)
    for name in ("predictions.csv", "hard_negatives.csv"):
        assert (killed / name).read_text() == (whole / name).read_text()


def test_auto_leaves_its_choices_in_a_table(tmp_path: Path):
    study = {"auto": {"candidates": ["ours", "ours-top2", "abmil"]}}
    bags = bags_of_two_slides_a_case(24)
    evaluation = make_evaluation(tmp_path, arms=("auto", "ours"), bags=bags, study=study, repeats=2)
    _run(evaluation)
    rows = read_table(tmp_path / "choices.csv", ChoiceRow)
    assert [(row.trial.repeat, row.trial.fold) for row in rows[::3]] == [
        (r, f) for r in (0, 1) for f in range(3)
    ]
    assert [row.candidate for row in rows[:3]] == ["ours", "ours-top2", "abmil"]
    by_trial = [rows[i : i + 3] for i in range(0, len(rows), 3)]
    assert all(len({row.chosen for row in trial}) == 1 for trial in by_trial)
    assert list(valid_rows(evaluation).choices) == rows
    before = (tmp_path / "choices.csv").read_bytes()
    _run(evaluation)
    assert (tmp_path / "choices.csv").read_bytes() == before
    fewer = {"auto": {"candidates": ["ours", "mean"]}}
    other = make_evaluation(tmp_path, arms=("auto",), bags=bags, study=fewer, repeats=2)
    assert valid_rows(other).choices == []
    _run(other)
    assert {row.candidate for row in read_table(tmp_path / "choices.csv", ChoiceRow)} == {"ours", "mean"}
