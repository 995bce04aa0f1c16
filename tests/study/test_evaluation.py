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

from hardmil.bags.bag import Bag
from hardmil.bags.folds import Fold, repeated_folds
from hardmil.config.study import StudyConfig
from hardmil.errors import FoldError
from hardmil.evaluation import evaluation as evaluation_module
from hardmil.evaluation import trainer as trainer_module
from hardmil.evaluation import trial as trial_module
from hardmil.evaluation.arms import arm
from hardmil.evaluation.evaluation import Evaluation, evaluate_arms, valid_rows
from hardmil.evaluation.results import METRICS, Row, read_attention, read_rows
from hardmil.evaluation.trial import Trial, TrialResult, make_cohort, run_trial
from hardmil.metrics import binary_metrics
from hardmil.mil.network import BagClassifier
from hardmil.mil.training import Device, fit
from hardmil.mining.hard_instances import HardInstance
from hardmil.mining.procedure import Mined, train_and_mine

CPU = Device("cpu", bfloat16=False)
STUDY: dict[str, Any] = {
    "network": {"embedding_dim": 4, "dropout": 0.1},
    "pooling": {"attention_dim": 3},
    "training": {"epochs": 2, "lr": 0.02},
    "mining": {"threshold": 0.0, "n_clusters": 2, "inner_folds": 2},
}
ARMS = ("ours", "ours+sb", "ours+mb", "ours+fmb", "ours+fmb@random")


def _bags(n: int = 12) -> list[Bag]:
    """Two slides a case; odd cases positive."""
    rng = np.random.default_rng(0)
    bags: list[Bag] = []
    for i in range(n):
        features = rng.normal(size=(5, 3)).astype(np.float32)
        features[0, 0] += 4 * (i // 2 % 2)
        bags.append(Bag(f"s{i}", f"c{i // 2}", i // 2 % 2, features, rng.integers(0, 99, (5, 2)), 16))
    return bags


def _evaluation(
    folder: Path,
    *,
    arms: Sequence[str] = ("ours", "ours+mb"),
    bags: Sequence[Bag] | None = None,
    study: dict[str, Any] | None = None,
    repeats: int = 1,
    **rest: Any,
) -> Evaluation:
    cohort = make_cohort(bags or _bags())
    config = StudyConfig.model_validate(STUDY | (study or {}))
    folds = repeated_folds(cohort.labels, cohort.cases, n_folds=3, n_repeats=repeats, seed=0)
    return Evaluation(
        cohort=cohort,
        folds=folds,
        arms=[arm(name, study=config) for name in arms],
        classes=("normal", "tumour"),
        folder=folder,
        split="case",
        patches="features",
        **{"seed": 7} | rest,
    )


def _run(evaluation: Evaluation) -> None:
    assert evaluate_arms(evaluation, device=CPU, quiet=True) == []


def _rows(folder: Path) -> list[Row]:
    """The rows of results.csv, but for the time they took."""
    return [
        {name: text for name, text in row.items() if name != "seconds"}
        for row in read_rows(folder / "results.csv")
    ]


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
        n_fits.append(rest["extra"] is not None)
        return fit(bags, **rest)

    monkeypatch.setattr(trainer_module, "fit", counted)
    _run(_evaluation(tmp_path, arms=ARMS))
    assert len(_rows(tmp_path)) == 15
    assert sorted(n_fits) == [False] * 3 + [True] * 12


def test_the_tables_agree_with_one_another(tmp_path: Path):
    evaluation = _evaluation(tmp_path, arms=("ours", "ours+fmb-oof", "ours+fmb-oof@random"), repeats=2)
    _run(evaluation)
    results = read_rows(tmp_path / "results.csv")
    predictions = read_rows(tmp_path / "predictions.csv")
    mined = read_rows(tmp_path / "hard_negatives.csv")
    assert len(results) == 3 * 2 * 3
    assert len(predictions) == 3 * 2 * 12
    by_id = {bag.slide_id: bag for bag in evaluation.cohort.bags}
    for row in results:
        name = {column: row[column] for column in ("arm", "split", "patches", "repeat", "fold")}
        tested = [one for one in predictions if name.items() <= one.items()]
        fold = evaluation.folds[int(row["repeat"])][int(row["fold"])]
        assert [one["slide_id"] for one in tested] == [f"s{i}" for i in fold.test]
        labels = np.array([int(one["label"] == "tumour") for one in tested])
        metrics = binary_metrics(labels, np.array([float(one["bag_score"]) for one in tested]))
        for metric in METRICS:
            np.testing.assert_allclose(float(row[metric]), getattr(metrics, metric), rtol=1e-6)
        found = [one for one in mined if name.items() <= one.items()]
        assert len(found) == int(row["n_hard"])
        assert (len(found) > 0) == (row["arm"] != "ours") == (row["n_false_positive_bags"] != "0")
        training = {f"s{i}" for i in fold.train}
        for one in found:
            bag = by_id[one["slide_id"]]
            assert one["slide_id"] in training
            assert (one["case_id"], bag.label) == (bag.case_id, 0)
            assert [int(one["x"]), int(one["y"])] == bag.coords[int(one["instance"])].tolist()
        assert float(row["seconds"]) > 0


def test_attention_of_the_test_bags_is_kept(tmp_path: Path):
    evaluation = _evaluation(tmp_path)
    _run(evaluation)
    for row in read_rows(tmp_path / "results.csv"):
        for i in evaluation.folds[0][int(row["fold"])].test:
            path = tmp_path / "trials" / row["config_hash"] / "attention.h5"
            attention, coords = read_attention(path, slide_id=f"s{i}")
            assert attention.sum() == pytest.approx(1, abs=1e-6)
            np.testing.assert_array_equal(coords, evaluation.cohort.bags[i].coords)


def test_what_is_finished_is_skipped(tmp_path: Path, ran: list[tuple[str, int, int]]):
    _run(_evaluation(tmp_path))
    assert len(ran) == 6
    before = (tmp_path / "results.csv").read_text()
    _run(_evaluation(tmp_path))
    assert len(ran) == 6
    assert (tmp_path / "results.csv").read_text() == before
    _run(_evaluation(tmp_path, arms=("ours", "ours+sb", "ours+mb")))
    assert ran[6:] == [("ours+sb", 0, fold) for fold in range(3)]


def _relabelled() -> list[Bag]:
    first, *rest = _bags()
    return [replace(first, instances=first.instances + 1), *rest]


@pytest.mark.parametrize(
    ("changes", "n_again"),
    [
        ({"seed": 8}, 6),
        ({"study": {"training": {"epochs": 1}}}, 6),
        ({"study": {"mining": {"threshold": 0.0, "n_bags": 2}}}, 3),
        ({"bags": _relabelled()}, 6),
        ({"split": "other"}, 0),
    ],
    ids=["seed", "epochs", "mining", "data", "same"],
)
def test_what_was_made_otherwise_is_made_again(
    changes: dict[str, Any], n_again: int, tmp_path: Path, ran: list[tuple[str, int, int]]
):
    _run(_evaluation(tmp_path))
    before = _rows(tmp_path)
    changes.pop("split", None)
    _run(_evaluation(tmp_path, **changes))
    assert len(ran) - 6 == n_again
    after = _rows(tmp_path)
    assert len(after) == 6
    assert sum(row not in before for row in after) == n_again
    assert len(read_rows(tmp_path / "predictions.csv")) == 24


def test_only_some_folds(tmp_path: Path, ran: list[tuple[str, int, int]]):
    _run(_evaluation(tmp_path, repeats=2, only_folds=(2, 0)))
    expected = [(name, repeat, fold) for repeat in (0, 1) for fold in (0, 2) for name in ("ours", "ours+mb")]
    assert ran == expected
    _run(_evaluation(tmp_path, repeats=2))
    assert len(ran) == 12
    with pytest.raises(FoldError, match="fold 3: there are 3 folds, expected 0 to 2"):
        _run(_evaluation(tmp_path, only_folds=(0, 3)))


def test_seeds_differ_between_folds_and_repeats_and_not_between_arms(tmp_path: Path):
    trials = _evaluation(tmp_path, arms=ARMS, repeats=2).trials()
    seeds = {(trial.repeat, trial.fold_number): trial.seed for trial in trials}
    assert len(set(seeds.values())) == len(seeds) == 6
    assert all(trial.seed == seeds[trial.repeat, trial.fold_number] for trial in trials)
    assert not set(seeds.values()) & {trial.seed for trial in _evaluation(tmp_path, seed=8).trials()}


def test_valid_rows_leave_out_what_is_stale(tmp_path: Path):
    old = _evaluation(tmp_path, arms=("ours", "ours+mb"))
    _run(old)
    rows = valid_rows(old)
    assert (len(rows.results), len(rows.predictions)) == (6, 24)
    assert [(row["arm"], row["fold"]) for row in rows.results][:3] == [
        ("ours", "0"),
        ("ours", "1"),
        ("ours", "2"),
    ]
    assert {row["arm"] for row in rows.hard_negatives} == {"ours+mb"}
    new = _evaluation(tmp_path, arms=("ours", "ours+mb"), study={"mining": {"threshold": 0.0, "n_bags": 2}})
    rows = valid_rows(new)
    assert {row["arm"] for row in rows.results} == {row["arm"] for row in rows.predictions} == {"ours"}
    assert rows.hard_negatives == []
    _run(replace(new, only_folds=(1,)))
    rows = valid_rows(replace(new, only_folds=(0,)))
    assert [row["fold"] for row in rows.results if row["arm"] == "ours+mb"] == ["1"]
    assert len(rows.predictions) == 12 + 4
    assert len(valid_rows(old).results) == 5


def test_valid_rows_of_further_arms(tmp_path: Path):
    _run(_evaluation(tmp_path, arms=("ours", "ours+mb")))
    one = _evaluation(tmp_path, arms=("ours",))
    assert {row["arm"] for row in valid_rows(one).results} == {"ours"}
    also = _evaluation(tmp_path, arms=("ours+sb", "ours+mb")).arms
    assert [row["arm"] for row in valid_rows(one, also=also).results] == ["ours"] * 3 + ["ours+mb"] * 3


def test_a_case_on_both_sides_is_refused_before_anything_is_trained(
    tmp_path: Path, ran: list[tuple[str, int, int]]
):
    good = _evaluation(tmp_path)
    leaking = Fold(train=np.arange(0, 9), test=np.arange(9, 12))  # slides 8 and 9 are of case c4
    with pytest.raises(FoldError, match="fold 1: case c4 is in train and in test"):
        _run(replace(good, folds=[[good.folds[0][0], leaking]]))
    assert ran == []


def test_an_instance_mined_outside_the_training_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    evaluation = _evaluation(tmp_path, arms=("ours+mb",))

    def leaking(bags: Sequence[Bag], **rest: Any) -> Mined:
        inside = {bag.slide_id for bag in bags}
        bag = next(bag for bag in evaluation.cohort.bags if bag.slide_id not in inside)
        planted = HardInstance(1, bag.slide_id, bag.case_id, 4, 0, 0, 16, 0.9, 0.9, 0, "train")
        mined = train_and_mine(bags, **rest)
        return replace(mined, pool=(*mined.pool, planted))

    monkeypatch.setattr(trial_module, "train_and_mine", leaking)
    message = r"arm ours\+mb, fold 0: instance 4 of slide s\d+, mined, comes from case c\d, which is not in"
    with pytest.raises(FoldError, match=message):
        _run(evaluation)
    assert read_rows(tmp_path / "results.csv") == []


# Dies like a process that is killed, just before a file takes its name.
KILLED = """
import importlib.util, json, os, signal, sys
folder, tests, left = sys.argv[1], sys.argv[2], int(sys.argv[3])
spec = importlib.util.spec_from_file_location("tests_of_evaluation", tests)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
replace = os.replace
def counted(source, target):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = counted
module._run(module._evaluation(module.Path(folder), arms=module.ARMS))
"""


def _run_and_kill(folder: Path, *, after: int) -> int:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), __file__, str(after)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    return done.returncode


def test_a_killed_evaluation_goes_on_where_it_was(tmp_path: Path, ran: list[tuple[str, int, int]]):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    _run(_evaluation(whole, arms=ARMS))
    # Names are taken, trial by trial: weights, results, attention, hard negatives, predictions, results.
    for after, n_rows in ((11, 1), (11, 2)):
        assert _run_and_kill(killed, after=after) == -signal.SIGKILL
        assert len(read_rows(killed / "results.csv")) == n_rows, after
    ran.clear()
    _run(_evaluation(killed, arms=ARMS))
    assert len(ran) == 15 - 2  # the hashes of another process hold here
    assert _rows(killed) == _rows(whole)
    for name in ("predictions.csv", "hard_negatives.csv"):
        assert (killed / name).read_text() == (whole / name).read_text()


def test_rows_half_replaced_are_not_taken_for_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    old = _evaluation(tmp_path, arms=("ours",))
    _run(old)
    expected = (tmp_path / "predictions.csv").read_text()
    plain = evaluation_module.replace_rows

    def killed(path: Path, rows: Any, **rest: Any) -> None:
        if rows and path.name == "results.csv":
            raise KeyboardInterrupt("killed")
        plain(path, rows, **rest)

    monkeypatch.setattr(evaluation_module, "replace_rows", killed)
    with pytest.raises(KeyboardInterrupt, match="killed"):
        _run(_evaluation(tmp_path, arms=("ours",), seed=8))
    assert (tmp_path / "predictions.csv").read_text() != expected
    assert len(valid_rows(old).results) == 2
    monkeypatch.setattr(evaluation_module, "replace_rows", plain)
    _run(old)
    assert (tmp_path / "predictions.csv").read_text() == expected
