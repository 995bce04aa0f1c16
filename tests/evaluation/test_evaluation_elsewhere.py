"""An evaluation in several processes and on Ray: the same tables, whoever dies on the way."""

import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
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
    result_rows,
)

from hardmil.errors import ConfigError
from hardmil.evaluation import evaluation as evaluation_module
from hardmil.evaluation import trial as trial_module
from hardmil.evaluation.evaluation import TrialContext, evaluate_arms, run_in_context
from hardmil.evaluation.trial import Trial, TrialResult
from hardmil.jobs.pool import Engine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of a run in one process, never disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert evaluate_arms(evaluation_of_six_arms(folder), device=CPU, quiet=True) == []
    assert len(result_rows(folder)) == 12
    return folder


def _assert_same(folder: Path, whole: Path) -> None:
    assert result_rows(folder) == result_rows(whole)
    for name in ("predictions.csv", "hard_negatives.csv"):
        assert (folder / name).read_text() == (whole / name).read_text()


def _networks(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("trials/*/model.safetensors"))


def _failing(bench: TrialContext, trial: Trial) -> TrialResult:
    if (trial.arm.name, trial.fold_number) == ("ours+mb", 1):
        raise ZeroDivisionError("a bug")
    return run_in_context(bench, trial)


def _assert_none_trained_twice(folder: Path, whole: Path) -> None:
    """Five of the arms share one base a fold, two of them the inner models."""
    saved = Counter((folder / "saved.txt").read_text().split())
    assert sorted(saved) == _networks(folder) == _networks(whole)
    assert set(saved.values()) == {1}


def test_two_workers_give_the_tables_of_one_though_one_is_killed(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(evaluation_module, "run_on_bench", dies_once)
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
    monkeypatch.setattr(evaluation_module, "run_on_bench", _failing)
    failures = evaluate_arms(evaluation_of_six_arms(tmp_path), device=CPU, engine=engine, quiet=True)
    assert [(one.name, one.message) for one in failures] == [
        ("ours+mb, repeat 1 fold 2", "ZeroDivisionError: a bug")
    ]
    assert "in _failing" in failures[0].traceback or "in failing" in failures[0].traceback
    assert result_rows(tmp_path) == [
        row for row in result_rows(whole) if (row["arm"], row["fold"]) != ("ours+mb", "1")
    ]
    monkeypatch.undo()
    assert evaluate_arms(evaluation_of_six_arms(tmp_path), device=CPU, quiet=True) == []
    _assert_same(tmp_path, whole)


@pytest.mark.parametrize("engine", [Engine(), TWO_WORKERS], ids=["one", "two"])
def test_an_arm_that_cannot_be_run_ends_the_study(engine: Engine, tmp_path: Path):
    study = evaluation_of_six_arms(tmp_path, arms=("ours+verdicts",), only_folds=(0,))
    with pytest.raises(ConfigError, match=r"arm ours\+verdicts: no verdict on any patch"):
        evaluate_arms(study, device=CPU, engine=engine, quiet=True)


def test_rows_lie_in_the_order_of_the_arms_whenever_they_came(whole: Path, tmp_path: Path):
    for arms in (SIX_ARMS[3:], SIX_ARMS):
        assert evaluate_arms(evaluation_of_six_arms(tmp_path, arms=arms), device=CPU, quiet=True) == []
    _assert_same(tmp_path, whole)


# Folder, address of Ray or nothing, word for a worker that is to die.
STUDY = """
import sys
from pathlib import Path
from hardmil.evaluation import evaluation
from hardmil.jobs.pool import Engine
from tests.support.evaluations import CPU, TWO_WORKERS, dies_once, evaluation_of_six_arms

if __name__ == "__main__":
    folder, address, dying = sys.argv[1:]
    engine = Engine("ray", address=address) if address else TWO_WORKERS
    if dying:
        evaluation.run_on_bench = dies_once
    study = evaluation_of_six_arms(Path(folder))
    assert evaluation.evaluate_arms(study, device=CPU, engine=engine, quiet=True) == []
"""


def _start(folder: Path, *, address: str = "", dying: str = "") -> subprocess.Popen[bytes]:
    """The study as a process of its own."""
    script = folder / "run.py"
    script.write_text(STUDY)
    # A script's folder is its path; it and its workers find the tests by that of this process.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), *filter(None, sys.path)])}
    return subprocess.Popen([sys.executable, str(script), str(folder), address, dying], env=environment)


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _wait_for(condition: Any, *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
def test_a_study_killed_at_a_random_moment_ends_with_the_same_numbers(whole: Path, tmp_path: Path):
    seed = int.from_bytes(os.urandom(3), "big")
    print(f"seed {seed}")
    draw = random.Random(seed)
    study = _start(tmp_path)
    _wait_for(lambda: _networks(tmp_path), seconds=60)
    time.sleep(draw.uniform(0, 3))
    workers = _children(study.pid) if study.poll() is None else []
    study.kill()
    assert study.wait() in (-signal.SIGKILL, 0)
    print(f"{len(result_rows(tmp_path))} rows and {len(_networks(tmp_path))} networks when killed")
    _wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), seconds=10)
    assert evaluate_arms(evaluation_of_six_arms(tmp_path), device=CPU, engine=TWO_WORKERS, quiet=True) == []
    _assert_same(tmp_path, whole)


@pytest.fixture
def ray_head(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a Ray of two workers, started as a lab would, with a token of its own."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    # Short: the path of a socket may have 107 letters.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        options = ["--head", "--block", "--num-cpus=2", f"--port={port}", f"--temp-dir={folder}"]
        options += ["--include-dashboard=false", "--disable-usage-stats"]
        log = Path(folder) / "head.log"
        with log.open("w") as file:
            command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options]
            head = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            _wait_for(lambda: "Ray runtime started" in log.read_text(), seconds=60)
            yield f"127.0.0.1:{port}"
        finally:
            head.terminate()
            head.wait(30)


def test_ray_gives_the_same_tables_though_a_worker_is_killed(whole: Path, tmp_path: Path, ray_head: str):
    study = _start(tmp_path, address=ray_head, dying="dying")
    assert study.wait(120) == 0
    assert (tmp_path / "death.txt").exists()
    assert int((tmp_path / "death.txt").read_text()) != study.pid
    _assert_same(tmp_path, whole)
    _assert_none_trained_twice(tmp_path, whole)


def test_ray_trains_on_cpus_alone(tmp_path: Path):
    message = "--engine ray: trains on the CPUs of its workers, found device cuda; add --device cpu"
    with pytest.raises(ConfigError, match=message):
        evaluate_arms(
            evaluation_of_six_arms(tmp_path),
            device=replace(CPU, name="cuda"),
            engine=Engine("ray"),
            quiet=True,
        )
