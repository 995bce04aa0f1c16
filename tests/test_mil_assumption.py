"""The problems of benchmarks/mil_assumption.py: labels follow the rule, poison is only where it should be."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hardmil.evaluation.arms import arm
from hardmil.files.csv_table import read_table
from hardmil.metrics import MeanSE

ROOT = Path(__file__).parents[1]
PROBLEMS = ("one-concept", "both-concepts", "false-frequency")
PARTS = ("train", "new", "test")
N = 60


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    path = ROOT / "benchmarks" / "mil_assumption.py"
    spec = importlib.util.spec_from_file_location("mil_assumption_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["mil_assumption_benchmark"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["mil_assumption_benchmark"]


def _counts(benchmark: ModuleType, name: str, part: str, *, label: int) -> np.ndarray:
    """[bag, kind]: instances of each kind in the bags with this label."""
    drawn = benchmark.draw_bags(name, part=part, seed=0, n=N)
    return np.array([np.bincount(one.kinds, minlength=4) for one in drawn if one.bag.label == label])


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_labels_follow_the_rule(benchmark: ModuleType, name: str, part: str):
    for label in (0, 1):
        _, first, second, _ = _counts(benchmark, name, part, label=label).T
        has_concepts = (first > 0) | (second > 0) if name == "one-concept" else (first > 0) & (second > 0)
        assert len(has_concepts) == N // 2
        assert (has_concepts == (label == 1)).all()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_poison_is_only_where_it_should_be(benchmark: ModuleType, name: str, part: str):
    for label in (0, 1):
        poison = _counts(benchmark, name, part, label=label)[:, benchmark.Kind.POISON]
        expected = name != "false-frequency" and (label == 1) == (part == "test")
        assert (poison == int(expected)).all()


def test_a_concept_is_frequent_only_in_negative_test_bags(benchmark: ModuleType):
    for part in PARTS:
        for label in (0, 1):
            n = _counts(benchmark, "false-frequency", part, label=label)[:, 1:3].sum(axis=1)
            low, high = (35, 44) if (part, label) == ("test", 0) else (1 + label, 1 + label)
            assert (n.min() >= low) & (n.max() <= high)
    n = _counts(benchmark, "false-frequency", "test", label=0)
    assert ((n[:, 1] > 0).sum() > 5) & ((n[:, 2] > 0).sum() > 5)  # either concept is repeated


@pytest.mark.parametrize("name", PROBLEMS)
def test_instances_are_drawn_from_the_distribution_of_their_kind(benchmark: ModuleType, name: str):
    drawn = benchmark.draw_bags(name, part="train", seed=0, n=400)
    instances = np.concatenate([one.bag.instances for one in drawn])
    kinds = np.concatenate([one.kinds for one in drawn])
    problem = benchmark.PROBLEMS[name]
    normals = (benchmark.BACKGROUND, problem.first, problem.second, benchmark.POISON)
    for kind in np.unique(kinds):
        found = instances[kinds == kind]
        assert found.shape[1] == benchmark.DIM
        assert found.mean() == pytest.approx(normals[kind].mean, abs=0.1)
        assert found.std() == pytest.approx(normals[kind].std, rel=0.05)


def test_training_cannot_see_the_kinds(benchmark: ModuleType):
    drawn = benchmark.draw_bags("one-concept", part="train", seed=0, n=4)
    assert all(one.bag.instance_labels is None for one in drawn)


def test_parts_and_seeds_differ_and_draws_repeat(benchmark: ModuleType):
    def first(part: str, seed: int) -> bytes:
        return benchmark.draw_bags("one-concept", part=part, seed=seed, n=1)[0].bag.instances.tobytes()

    assert first("train", 0) == first("train", 0)
    assert len({first(part, seed) for part in PARTS for seed in range(2)}) == 6


def test_only_missing_rows_are_run(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch):
    for name, value in {"ARMS": ("mean",), "SEEDS": range(1), "PARTS": dict.fromkeys(PARTS, 4)}.items():
        monkeypatch.setattr(benchmark, name, value)
    run: list[tuple[str, str]] = []

    def fake(one, *, problem: str, seed: int, bags: object, settings: str):
        run.append((problem, one.name))
        return benchmark.AucRow(problem, one.name, seed, settings, 1.0, 1.0, 0.0, 0.0)

    monkeypatch.setattr(benchmark, "_run", fake)
    kept: list = []

    def again() -> list[tuple[str, str]]:
        run.clear()
        benchmark.run_missing(list(kept), keep=lambda rows: kept.__setitem__(slice(None), rows))
        return list(run)

    assert again() == [(name, "mean") for name in PROBLEMS]
    assert again() == []
    monkeypatch.setattr(benchmark, "ARMS", ("mean", "max"))
    assert again() == [(name, "max") for name in PROBLEMS]
    assert len(kept) == 6
    longer = benchmark.STUDY.training.model_copy(update={"epochs": 21})
    monkeypatch.setattr(benchmark, "STUDY", benchmark.STUDY.model_copy(update={"training": longer}))
    assert len(again()) == 6
    assert len(kept) == 6


def test_a_verdict_needs_an_interval_on_one_side_of_chance(benchmark: ModuleType):
    assert benchmark.verdict(MeanSE(0.6, 0.03, 5, 0)) == "passes"  # 2.776 * 0.03 = 0.083
    assert benchmark.verdict(MeanSE(0.6, 0.04, 5, 0)) == "unclear"
    assert benchmark.verdict(MeanSE(0.4, 0.03, 5, 0)) == "fails"
    assert benchmark.verdict(MeanSE(0.0, 0.0, 5, 0)) == "fails"


def test_the_kept_rows_are_complete(benchmark: ModuleType):
    rows = read_table(benchmark.ROWS, benchmark.AucRow)
    expected = {
        (name, arm_name, seed) for name in PROBLEMS for arm_name in benchmark.ARMS for seed in benchmark.SEEDS
    }
    assert {row.key for row in rows} >= expected
    assert len({row.key for row in rows}) == len(rows)


@pytest.mark.slow
def test_max_passes_where_mean_takes_the_shortcut(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch):
    """A small training: the poison counts against a bag with mean, and has no effect with max."""
    monkeypatch.setattr(benchmark, "PARTS", {"train": 300, "new": 100, "test": 100})
    bags = {
        part: [one.bag for one in benchmark.draw_bags("one-concept", part=part, seed=0)] for part in PARTS
    }
    row = {
        name: benchmark._run(
            arm(name, study=benchmark.STUDY, kind="features"),
            problem="one-concept",
            seed=0,
            bags=bags,
            settings="",
        )
        for name in ("mean", "max")
    }
    assert row["mean"].train > 0.95
    assert row["mean"].test < 0.2
    assert row["max"].test > 0.7
