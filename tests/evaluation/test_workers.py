"""Evaluations on several workers and on Ray: the same tables as in one process, even if a worker dies."""

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.evaluations import (
    CPU,
    SIX_ARMS,
    TWO_WORKERS,
    dies_once,
    evaluation_of_six_arms,
    result_cells,
)
from tests.support.processes import (
    PATIENCE_S,
    children_of,
    new_ray_token,
    ray_of_two_workers,
    start_evaluation,
)
from tests.support.waiting import wait_until

from hardmil.errors import ConfigError
from hardmil.evaluation import evaluation as evaluation_module
from hardmil.evaluation import trial as trial_module
from hardmil.evaluation.evaluation import TrialContext, evaluate_arms, run_in_context
from hardmil.evaluation.trial import Trial, TrialResult
from hardmil.jobs.pool import Engine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of a run in one process that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert evaluate_arms(evaluation_of_six_arms(folder), device=CPU, quiet=True) == []
    assert len(result_cells(folder)) == 12
    return folder


def _assert_same(folder: Path, whole: Path) -> None:
    assert result_cells(folder) == result_cells(whole)
    for name in ("predictions.csv", "hard_negatives.csv"):
        assert (folder / name).read_text() == (whole / name).read_text()


def _networks(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("trials/*/model.safetensors"))


def _failing(context: TrialContext, trial: Trial) -> TrialResult:
    if (trial.arm.name, trial.fold_number) == ("ours+mb", 1):
        raise ZeroDivisionError("a bug")
    return run_in_context(context, trial)


def _assert_none_trained_twice(folder: Path, whole: Path) -> None:
    """Five of the arms share one base a fold, two of them the inner models."""
    saved = Counter((folder / "saved.txt").read_text().split())
    assert sorted(saved) == _networks(folder) == _networks(whole)
    assert set(saved.values()) == {1}


def test_two_workers_give_the_tables_of_one_though_one_is_killed(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(evaluation_module, "run_in_context", dies_once)
    assert evaluate_arms(evaluation_of_six_arms(tmp_path), device=CPU, engine=TWO_WORKERS, quiet=True) == []
    assert (tmp_path / "death.txt").exists()
    _assert_same(tmp_path, whole)
    _assert_none_trained_twice(tmp_path, whole)


@pytest.mark.parametrize("engine", [Engine(), TWO_WORKERS], ids=["one", "two"])
def test_a_trial_that_fails_is_named_and_the_others_go_on(
    engine: Engine, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run_trial = trial_module.run_trial

    def failing(trial: Trial, **rest: Any) -> TrialResult:
        if (trial.arm.name, trial.fold_number) == ("ours+mb", 1):
            raise ZeroDivisionError("a bug")
        return run_trial(trial, **rest)

    # Workers import the second, this process calls the first.
    monkeypatch.setattr(evaluation_module, "run_trial", failing)
    monkeypatch.setattr(evaluation_module, "run_in_context", _failing)
    failures = evaluate_arms(evaluation_of_six_arms(tmp_path), device=CPU, engine=engine, quiet=True)
    assert [(one.name, one.message) for one in failures] == [
        ("ours+mb, repeat 0, fold 1", "ZeroDivisionError: a bug")
    ]
    assert "in _failing" in failures[0].traceback or "in failing" in failures[0].traceback
    assert result_cells(tmp_path) == [
        row for row in result_cells(whole) if (row["arm"], row["fold"]) != ("ours+mb", "1")
    ]
    monkeypatch.undo()
    assert evaluate_arms(evaluation_of_six_arms(tmp_path), device=CPU, quiet=True) == []
    _assert_same(tmp_path, whole)


@pytest.mark.parametrize("engine", [Engine(), TWO_WORKERS], ids=["one", "two"])
def test_an_arm_that_cannot_be_run_ends_the_study(engine: Engine, tmp_path: Path):
    study = evaluation_of_six_arms(tmp_path, arms=("ours+verdicts",), only_folds=(0,))
    with pytest.raises(ConfigError, match=r"arm ours\+verdicts: no verdict on any patch"):
        evaluate_arms(study, device=CPU, engine=engine, quiet=True)


def test_rows_are_in_the_order_of_the_arms_whatever_ran_first(whole: Path, tmp_path: Path):
    for arms in (SIX_ARMS[3:], SIX_ARMS):
        assert evaluate_arms(evaluation_of_six_arms(tmp_path, arms=arms), device=CPU, quiet=True) == []
    _assert_same(tmp_path, whole)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
def test_a_study_killed_at_a_random_moment_ends_with_the_same_numbers(whole: Path, tmp_path: Path):
    seed = int.from_bytes(os.urandom(3), "big")
    print(f"seed {seed}")
    n_networks = random.Random(seed).randint(1, len(_networks(whole)))
    study = start_evaluation(tmp_path)
    wait_until(
        lambda: len(_networks(tmp_path)) >= n_networks or study.poll() is not None,
        what=f"{n_networks} networks",
    )
    workers = children_of(study.pid) if study.poll() is None else []
    study.kill()
    assert study.wait() in (-signal.SIGKILL, 0)
    print(f"{len(result_cells(tmp_path))} rows and {len(_networks(tmp_path))} networks when killed")
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), what="the workers' end")
    assert evaluate_arms(evaluation_of_six_arms(tmp_path), device=CPU, engine=TWO_WORKERS, quiet=True) == []
    _assert_same(tmp_path, whole)


@pytest.fixture
def ray_head(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a Ray with a token of its own."""
    for name, value in new_ray_token().items():
        monkeypatch.setenv(name, value)
    with ray_of_two_workers() as address:
        yield address


def test_ray_gives_the_same_tables_though_a_worker_is_killed(whole: Path, tmp_path: Path, ray_head: str):
    study = start_evaluation(tmp_path, address=ray_head, dying="dying")
    assert study.wait(PATIENCE_S) == 0
    assert (tmp_path / "death.txt").exists()
    assert int((tmp_path / "death.txt").read_text()) != study.pid
    _assert_same(tmp_path, whole)
    _assert_none_trained_twice(tmp_path, whole)


def test_ray_trains_on_cpus_alone(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"--engine ray: .*cuda.*--device cpu"):
        evaluate_arms(
            evaluation_of_six_arms(tmp_path),
            device=replace(CPU, name="cuda"),
            engine=Engine("ray"),
            quiet=True,
        )
