"""Synthetic rows of results.csv and predictions.csv."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from hardmil.evaluation.evaluation import TrialRows
from hardmil.evaluation.results import ArmKey, PredictionRow, ResultRow, TrialKey, key_of
from hardmil.metrics import BinaryMetrics
from hardmil.statistics.pooled_predictions import PooledRepeat, pool_predictions


def prediction_rows(
    arm: str = "ours",
    *,
    n_cases: int = 9,
    repeats: int = 2,
    seed: int = 0,
    shift: float = 1.0,
    patches: str = "grid",
) -> list[PredictionRow]:
    """Cases of one to three slides, some with slides of both classes; scores differ by repeat."""
    rng = np.random.default_rng(seed)
    shape = np.random.default_rng(7)
    slides = [(case, k) for case in range(n_cases) for k in range(1 + case % 3)]
    labels = {slide: ("tumour" if (slide[0] + (slide[1] == 2)) % 2 else "normal") for slide in slides}
    rows: list[PredictionRow] = []
    for repeat in range(repeats):
        fold = {case: int(shape.integers(3)) for case in range(n_cases)}
        for slide in slides:
            case, k = slide
            logit = shift * (1 if labels[slide] == "tumour" else -1) + rng.normal()
            score = round(1 / (1 + math.exp(-logit)), 2)
            called = "tumour" if score > 0.4 else "normal"
            trial = TrialKey(arm, "case", patches, repeat, fold[case])
            rows.append(
                PredictionRow(trial, f"s{case}-{k}", f"c{case}", labels[slide], score, op_prediction=called)
            )
    return rows


def of_arm(rows: Iterable[PredictionRow], arm: str) -> list[PredictionRow]:
    """The same predictions as those of another arm."""
    return [replace(row, trial=replace(key_of(row), arm=arm)) for row in rows]


def pooled_arms(*tables: list[PredictionRow]) -> dict[ArmKey, list[PooledRepeat]]:
    return pool_predictions([row for table in tables for row in table], positive="tumour")


THREE_ARMS = ("ours", "ours+mb", "ours+mb@random")


def trial_rows(arms: Sequence[str] = THREE_ARMS, *, knows_op: bool = True) -> TrialRows:
    """Twelve cases of one slide each, two repeats."""
    results: list[ResultRow] = []
    predictions: list[PredictionRow] = []
    for number, arm in enumerate(arms):
        for repeat in range(2):
            rng = np.random.default_rng([number, repeat])
            trial = TrialKey(arm, "case", "grid", repeat, 0)
            results.append(ResultRow(trial, "hash", 1, 2, BinaryMetrics(*[0.5] * 6)))
            for i in range(12):
                label = "tumour" if i % 2 else "normal"
                score = 0.3 + 0.2 * (i % 2) + 0.2 * rng.uniform(-1, 1)
                called = "tumour" if score > 0.4 else "normal"
                call = called if knows_op else ""
                predictions.append(PredictionRow(trial, f"s{i}", f"c{i}", label, score, op_prediction=call))
    return TrialRows(results, predictions, [])
