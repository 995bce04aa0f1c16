"""What an arm costs in training, relative to `ours`.

Used by benchmarks/comparison.py and benchmarks/false_positives.py.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hardmil.bags.bag import Bag
from hardmil.bags.folds import repeated_folds
from hardmil.config.study import StudyConfig
from hardmil.device import find_device
from hardmil.evaluation.arms import arm
from hardmil.evaluation.cohort import Cohort, make_cohort
from hardmil.evaluation.evaluation import Evaluation
from hardmil.evaluation.trial import OperatingSettings
from hardmil.mil.training import fit
from hardmil.paper.cost import training_visits

BASE = "ours"
N_BAGS, N_INSTANCES, DIM = 30, 100, 1280


@dataclass(frozen=True)
class CostRow:
    """The processor time of one training of an arm, and its ratio to that of `ours` in the same run."""

    arm: str
    seconds: float
    ratio: float


def measure_cost(names: Sequence[str]) -> list[CostRow]:
    """One training of each arm on the same bags on one thread, three times in turn; the shortest counts."""
    torch.set_num_threads(1)
    bags, device = _bags(), find_device("cpu", precision="float32")
    seconds = dict.fromkeys(names, np.inf)
    models = {name: arm(name, study=StudyConfig(), kind="features").model for name in names}
    for _ in range(3):
        for name, model in models.items():
            training = model.training.model_copy(update={"epochs": 3})
            started = time.process_time()
            fit(bags, config=model.model_copy(update={"training": training}), device=device)
            seconds[name] = min(seconds[name], time.process_time() - started)
    return [CostRow(name, round(one, 3), round(one / seconds[BASE], 2)) for name, one in seconds.items()]


def visits_ratios(names: Sequence[str]) -> dict[str, float]:
    """Patch visits of all trainings of a trial of each arm, operating point included, relative to `ours`."""
    cohort = make_cohort(_bags())
    base = _visits(BASE, cohort=cohort)
    return {name: _visits(name, cohort=cohort) / base for name in names}


def _visits(name: str, *, cohort: Cohort) -> int:
    folds = repeated_folds(cohort.labels, cohort.cases, n_folds=5, n_repeats=1, seed=0)
    evaluation = Evaluation(
        cohort=cohort,
        folds=folds,
        arms=[arm(name, study=StudyConfig(), kind="features")],
        classes=("negative", "positive"),
        folder=Path(),
        split="case",
        patches="features",
        seed=0,
        only_folds=(0,),
        operating=OperatingSettings("sensitivity=0.90", 4),
    )
    return training_visits(evaluation.trials(), cohort=cohort)


def _bags() -> list[Bag]:
    rng = np.random.default_rng(0)
    side = int(np.sqrt(N_INSTANCES))
    corners = np.stack(np.divmod(np.arange(N_INSTANCES), side), axis=1).astype(np.int64) * 8
    return [
        Bag(f"s{i}", f"c{i}", i % 2, rng.normal(size=(N_INSTANCES, DIM)).astype(np.float32), corners, 8)
        for i in range(N_BAGS)
    ]
