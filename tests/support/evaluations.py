"""Small evaluations, and a worker that dies in the middle of one."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.bags.folds import repeated_folds
from hardmil.config.study import StudyConfig
from hardmil.device import Device
from hardmil.evaluation import trainer as trainer_module
from hardmil.evaluation.arms import arm
from hardmil.evaluation.cohort import make_cohort
from hardmil.evaluation.evaluation import Evaluation, TrialContext, run_in_context
from hardmil.evaluation.trial import OperatingSettings, Trial, TrialResult
from hardmil.files.csv_table import Cells, read_cells
from hardmil.jobs.pool import Engine
from hardmil.mil.training import fit
from hardmil.mil.weights import save_network

CPU = Device("cpu", bfloat16=False)


STUDY: dict[str, Any] = {
    "network": {"embedding_dim": 4, "dropout": 0.1},
    "pooling": {"attention_dim": 3},
    "training": {"epochs": 2, "lr": 0.02},
    "mining": {"threshold": 0.0, "n_clusters": 2, "inner_folds": 2},
}


ARMS = ("ours", "ours+sb", "ours+mb", "ours+fmb", "ours+fmb@random")


def bags_of_two_slides_a_case(n: int = 12) -> list[Bag]:
    """Two slides a case; odd cases positive."""
    rng = np.random.default_rng(0)
    bags: list[Bag] = []
    for i in range(n):
        features = rng.normal(size=(5, 3)).astype(np.float32)
        features[0, 0] += 4 * (i // 2 % 2)
        bags.append(Bag(f"s{i}", f"c{i // 2}", i // 2 % 2, features, rng.integers(0, 99, (5, 2)), 16))
    return bags


def make_evaluation(
    folder: Path,
    *,
    arms: Sequence[str] = ("ours", "ours+mb"),
    bags: Sequence[Bag] | None = None,
    study: dict[str, Any] | None = None,
    repeats: int = 1,
    **rest: Any,
) -> Evaluation:
    cohort = make_cohort(bags or bags_of_two_slides_a_case())
    config = StudyConfig.model_validate(STUDY | (study or {}))
    labels = config.task.fold_labels(cohort.labels)
    folds = repeated_folds(labels, cohort.cases, n_folds=3, n_repeats=repeats, seed=0)
    return Evaluation(
        cohort=cohort,
        folds=folds,
        arms=[arm(name, study=config, kind="features") for name in arms],
        classes=("normal", "tumour"),
        folder=folder,
        split="case",
        patches="features",
        **{"seed": 7} | rest,
    )


def result_cells(folder: Path) -> list[Cells]:
    """The lines of results.csv as text, without the time they took."""
    return [
        {name: text for name, text in row.items() if name != "seconds"}
        for row in read_cells(folder / "results.csv")
    ]


TWO_WORKERS = Engine(workers=2)


SIX_ARMS = ("ours", "ours+sb", "ours+mb", "ours+fmb-oof", "ours+fmb-oof@random", "abmil")


def evaluation_of_six_arms(folder: Path, **rest: Any) -> Evaluation:
    return make_evaluation(
        folder,
        **{"arms": SIX_ARMS, "operating": OperatingSettings("sensitivity=0.9", 2), "only_folds": (0, 1)}
        | rest,
    )


def dies_once(context: TrialContext, trial: Trial) -> TrialResult:
    """A trial that notes what it trained; its worker is killed, once, as it begins a third training."""
    notes, n_fits = context.folder.parent, 0

    def killed(bags: Any, **rest: Any) -> Any:
        nonlocal n_fits
        n_fits += 1
        if trial.arm.name == "ours+fmb-oof" and n_fits == 3 and not (notes / "death.txt").exists():
            (notes / "death.txt").write_text(f"{os.getpid()}")
            os.kill(os.getpid(), signal.SIGKILL)
        return fit(bags, **rest)

    def noted(path: Path, network: Any) -> None:
        with (notes / "saved.txt").open("a") as file:
            file.write(f"{path.parent.name}\n")
        save_network(path, network)

    trainer_module.fit, trainer_module.save_network = killed, noted
    return run_in_context(context, trial)
