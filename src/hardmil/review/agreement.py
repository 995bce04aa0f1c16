"""How well two reviewers agree on the patches that both judged."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

from hardmil.bootstrap import percentile_limits
from hardmil.mining.verdict_store import JudgedPatch, StoredVerdict
from hardmil.review.answers import TWO_CLASS_WORDS

N_RESAMPLES = 5_000


@dataclass(frozen=True)
class Agreement:
    """Cohen's kappa of two reviewers on the `n` patches that both judged, with its 95% interval by case.

    `table` counts patches: rows are the verdicts of the first reviewer, columns those of the second, both in
    the order of the words. Kappa is NaN where it is not defined: without a patch, or if both always gave the
    same one verdict. Limits are NaN with fewer than two cases.
    """

    reviewers: tuple[str, str]
    n: int
    kappa: float
    low: float
    high: float
    table: tuple[tuple[int, ...], ...]


def agreements(
    verdicts: Iterable[StoredVerdict],
    *,
    cases: Mapping[str, str],
    seed: int,
    words: Sequence[str] = TWO_CLASS_WORDS,
) -> list[Agreement]:
    """The agreement of each two reviewers that judged a patch twice, most patches first.

    Args:
        verdicts: Standing verdicts.
        cases: The case of each slide.
        seed: Seed of the resampling.
        words: The verdicts that can be given; others are left out, such as classes that the study had once.
    """
    given: dict[str, dict[JudgedPatch, int]] = {}
    for one in verdicts:
        if one.verdict in words:
            given.setdefault(one.reviewer, {})[one.patch] = words.index(one.verdict)
    found: list[Agreement] = []
    for pair in combinations(sorted(given), 2):
        first, second = (given[name] for name in pair)
        both = sorted(first.keys() & second.keys(), key=lambda patch: (patch.slide_id, patch.x, patch.y))
        if both:
            tables = _tables(
                [cases.get(patch.slide_id, patch.slide_id) for patch in both],
                first=[first[patch] for patch in both],
                second=[second[patch] for patch in both],
                n_words=len(words),
            )
            found.append(_agreement(pair, tables=tables, seed=seed))
    return sorted(found, key=lambda one: -one.n)


def _tables(
    cases: Sequence[str], *, first: Sequence[int], second: Sequence[int], n_words: int
) -> Int[np.ndarray, "case verdict verdict"]:
    """The table of each case."""
    names, case_of = np.unique(np.asarray(cases), return_inverse=True)
    tables = np.zeros((len(names), n_words, n_words), dtype=np.int64)
    np.add.at(tables, (case_of, np.asarray(first), np.asarray(second)), 1)
    return tables


def _agreement(
    pair: tuple[str, str], *, tables: Int[np.ndarray, "case verdict verdict"], seed: int
) -> Agreement:
    table, n_cases = tables.sum(axis=0), len(tables)
    low = high = math.nan
    if n_cases > 1:
        rng = np.random.default_rng(seed)
        draws = rng.multinomial(n_cases, np.full(n_cases, 1 / n_cases), size=N_RESAMPLES)
        drawn = np.tensordot(draws, tables, axes=1)
        low, high = percentile_limits(cohen_kappa(drawn), n_cases=n_cases)
    kappa = float(cohen_kappa(table[None])[0])
    rows = tuple(tuple(row) for row in table.tolist())
    return Agreement(pair, int(table.sum()), kappa, low, high, rows)


def cohen_kappa(tables: Int[np.ndarray, "table verdict verdict"]) -> Float[np.ndarray, " table"]:
    """Cohen's kappa of each table of counts; NaN where chance alone agrees always.

    Source: Cohen 1960: (observed - expected) / (1 - expected), expected from the margins.
    """
    total = tables.sum(axis=(1, 2)).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.trace(tables, axis1=1, axis2=2) / total
        expected = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1) / total**2
        return np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)
