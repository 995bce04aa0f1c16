"""Rows of predictions.csv, synthetic."""

import math

import numpy as np

from hardmil.evaluation.results import ArmKey, PredictionRow, TrialKey
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


def pooled_arms(*tables: list[PredictionRow]) -> dict[ArmKey, list[PooledRepeat]]:
    return pool_predictions([row for table in tables for row in table], positive="tumour")
