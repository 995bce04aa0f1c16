"""Trials that run together give what they give one by one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.evaluations import CPU, STUDY, make_evaluation

from hardmil.bags.bag import Bag
from hardmil.config.study import StudyConfig
from hardmil.errors import StoreError, TrainingError
from hardmil.evaluation import together
from hardmil.evaluation import trainer as trainer_module
from hardmil.evaluation.arms import arm
from hardmil.evaluation.evaluation import Evaluation, evaluate_arms
from hardmil.evaluation.trial import OperatingSettings
from hardmil.files.csv_table import read_cells
from hardmil.jobs.pool import Engine
from hardmil.mil.population import Training

TOGETHER = Engine(population=3)
ARMS = ("ours", "ours+fmb-oof", "ours+fmb-oof@random", "ours+inject-oof", "ours+weigh-oof", "mean")


def _bags() -> list[Bag]:
    """Twelve bags of patches of noise; every second has two dark patches."""
    rng = np.random.default_rng(0)
    bags: list[Bag] = []
    for i in range(12):
        pixels = rng.integers(0, 256, (4 + i % 3, 24, 24, 3), dtype=np.uint8)
        pixels[: 2 * (i % 2)] //= 4
        bags.append(Bag(f"s{i}", f"c{i}", i % 2, pixels, rng.integers(0, 99, (len(pixels), 2)), 24))
    return bags


def _evaluation(folder: Path, *, arms: Sequence[str] = ARMS, **rest: Any) -> Evaluation:
    study = StudyConfig.model_validate(STUDY | {"training": {"epochs": 2, "lr": 1e-4}})
    made = make_evaluation(
        folder, bags=_bags(), operating=OperatingSettings("sensitivity=0.9", 2), only_folds=(0, 1), **rest
    )
    object.__setattr__(made, "arms", [arm(name, study=study, kind="pixels") for name in arms])
    return made


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one-by-one")
    assert evaluate_arms(_evaluation(folder), device=CPU, quiet=True) == []
    return folder


def test_tables_are_those_of_trials_one_by_one(one_by_one: Path, tmp_path: Path):
    assert evaluate_arms(_evaluation(tmp_path), device=CPU, engine=TOGETHER, quiet=True) == []
    for name in ("results.csv", "predictions.csv", "hard_negatives.csv"):
        found, expected = read_cells(tmp_path / name), read_cells(one_by_one / name)
        assert len(found) == len(expected) > 0
        for row, other in zip(found, expected, strict=True):
            assert row.keys() == other.keys()
            for column in row:
                if column != "seconds":
                    _assert_close(row[column], other[column], what=f"{name}, {column}")


def _assert_close(text: str, other: str, *, what: str) -> None:
    try:
        found, expected = float(text), float(other)
    except ValueError:
        assert text == other, what
        return
    assert found == pytest.approx(expected, abs=2e-4, nan_ok=True), what


@pytest.mark.slow
def test_each_network_is_trained_once_and_most_in_populations(
    one_by_one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sizes: list[int] = []
    fit_population = together.fit_population

    def counted(trainings: Sequence[Training], **rest: Any) -> Any:
        sizes.append(len(trainings))
        return fit_population(trainings, **rest)

    monkeypatch.setattr(together, "fit_population", counted)
    evaluate_arms(_evaluation(tmp_path), device=CPU, engine=TOGETHER, quiet=True)
    networks = {path.parent.name for path in tmp_path.glob("trials/*/model.safetensors")}
    assert networks == {path.parent.name for path in one_by_one.glob("trials/*/model.safetensors")}
    assert max(sizes) == 3
    assert sum(sizes) <= len(networks)


def test_a_second_run_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    evaluation = _evaluation(tmp_path, arms=("ours", "abmil"))
    evaluate_arms(evaluation, device=CPU, engine=TOGETHER, quiet=True)
    (tmp_path / "results.csv").unlink()
    monkeypatch.setattr(together, "fit_population", None)
    monkeypatch.setattr(trainer_module, "fit", None)
    assert evaluate_arms(evaluation, device=CPU, engine=TOGETHER, quiet=True) == []
    assert len(read_cells(tmp_path / "results.csv")) == 4


@pytest.mark.slow
def test_when_memory_runs_out_populations_get_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fit_population = together.fit_population
    sizes: list[int] = []

    def limited(trainings: Sequence[Training], **rest: Any) -> Any:
        sizes.append(len(trainings))
        if len(trainings) > 2:
            raise torch.OutOfMemoryError("no memory left")
        return fit_population(trainings, **rest)

    monkeypatch.setattr(together, "fit_population", limited)
    assert evaluate_arms(_evaluation(tmp_path), device=CPU, engine=TOGETHER, quiet=True) == []
    assert {2, 3} <= set(sizes)


def test_a_training_that_fails_fails_its_trials_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fit_population, fit = together.fit_population, trainer_module.fit
    evaluation = _evaluation(tmp_path, arms=("ours", "abmil"))
    bad = {evaluation.cohort.bags[i].slide_id for i in evaluation.folds[0][1].train}

    def has_bad(bags: Sequence[Bag]) -> bool:
        return {bag.slide_id for bag in bags} == bad

    def fitted(bags: Sequence[Bag], **rest: Any) -> Any:
        if has_bad(bags):
            raise TrainingError("the loss is nan")
        return fit(bags, **rest)

    def population(trainings: Sequence[Training], **rest: Any) -> Any:
        if any(has_bad(one.bags) for one in trainings):
            raise TrainingError("the loss is nan")
        return fit_population(trainings, **rest)

    monkeypatch.setattr(together, "fit_population", population)
    monkeypatch.setattr(trainer_module, "fit", fitted)
    failures = evaluate_arms(evaluation, device=CPU, engine=TOGETHER, quiet=True)
    assert [one.name for one in failures] == ["ours, repeat 0, fold 1", "abmil, repeat 0, fold 1"]
    assert "the loss is nan" in failures[0].message
    assert len(read_cells(tmp_path / "results.csv")) == 2


def test_an_error_that_stops_the_run_ends_all_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any, **__: Any) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(trainer_module, "save_network", full)
    with pytest.raises(StoreError, match="the disk is full"):
        evaluate_arms(_evaluation(tmp_path), device=CPU, engine=TOGETHER, quiet=True)


def test_a_cpu_trains_one_network_at_a_time_unless_told():
    assert together.population_size(_bags(), device=CPU, wanted=None) == 1
    assert together.population_size(_bags(), device=CPU, wanted=7) == 7
