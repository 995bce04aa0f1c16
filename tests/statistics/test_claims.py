"""Claims against a plain loop over resamples, and on studies where they must not be made."""

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.support.predictions import of_arm, pooled_arms, prediction_rows

from hardmil.bootstrap import percentile_limits, widened_p
from hardmil.evaluation.results import PredictionRow, TrialKey
from hardmil.statistics.claims import AT_OP, AT_SENSITIVITY, Claim, claim_words, claims
from hardmil.statistics.comparisons import holm
from hardmil.statistics.intervals import ResampledArm, resample_arms
from hardmil.statistics.weighted_metrics import RESAMPLED


def study(arm: str, *, n: int = 80, fpr: float, sensitivity: float) -> list[PredictionRow]:
    """One slide a case; the first slides of each label are called positive, as many as the rates say."""
    rows: list[PredictionRow] = []
    for i in range(n):
        label, rank = ("tumour", sensitivity) if i % 2 else ("normal", fpr)
        is_called = i // 2 < round(rank * n / 2)
        score = 0.9 if is_called else 0.1
        call = "tumour" if is_called else "normal"
        rows.append(
            PredictionRow(
                TrialKey(arm, "case", "grid", 0, 0), f"s{i}", f"c{i}", label, score, op_prediction=call
            )
        )
    return rows


def resampled(*tables: list[PredictionRow], n_resamples: int = 2000) -> list[ResampledArm]:
    return resample_arms(pooled_arms(*tables), seed=0, n_resamples=n_resamples)


def claim_of(ours: tuple[float, float], mined: tuple[float, float], *, margin: float = 0.05) -> Claim:
    """The claim of an arm against its base, given (FPR, sensitivity) of each."""
    tables = [
        study(name, fpr=rates[0], sensitivity=rates[1])
        for name, rates in (("ours", ours), ("ours+mb", mined))
    ]
    (found,) = claims(resampled(*tables), margin=margin)
    return found


@pytest.mark.parametrize(
    ("ours", "mined", "verdict", "is_trade"),
    [
        ((0.5, 0.9), (0.2, 0.9), "fewer", False),
        ((0.5, 0.9), (0.2, 1.0), "fewer", False),
        ((0.5, 0.9), (0.2, 0.5), "not decided", True),
        ((0.5, 0.9), (0.475, 0.9), "not decided", False),
        ((0.2, 0.9), (0.5, 0.9), "more", False),
        ((0.2, 0.5), (0.5, 0.9), "not decided", True),
        ((0.2, 0.9), (0.5, 0.5), "more", False),
    ],
)
def test_a_claim_needs_the_rate_and_the_sensitivity(ours, mined, verdict: str, is_trade: bool):
    found = claim_of(ours, mined)
    assert (found.verdict, found.is_trade, found.threshold) == (verdict, is_trade, AT_OP)
    assert found.fpr == pytest.approx(mined[0] - ours[0])
    assert found.sensitivity == pytest.approx(mined[1] - ours[1])


def test_the_margin_decides_how_much_lower_a_sensitivity_may_be():
    lower = ((0.5, 0.95), (0.1, 0.9))
    assert claim_of(*lower, margin=0.05).verdict == "not decided"
    assert claim_of(*lower, margin=0.3).verdict == "fewer"


def test_p_is_that_of_the_weaker_part():
    """By a plain loop over the resamples: each part alone, then the larger p."""
    arms = resampled(
        prediction_rows("ours", n_cases=20), prediction_rows("ours+mb", n_cases=20, seed=5), n_resamples=300
    )
    (found,) = claims(arms, margin=0.1)
    ours, mined = arms
    drawn = {}
    for metric in ("fpr_op", "sens_op"):
        i = RESAMPLED.index(metric)
        drawn[metric] = [
            np.mean([mined.resampled[i, repeat, k] - ours.resampled[i, repeat, k] for repeat in range(2)])
            for k in range(300)
        ]

    def p(n_against: int) -> float:
        return widened_p(min(1.0, 2 * (n_against + 1) / 301), n_cases=20)

    close = 1e-9
    fewer = max(
        p(sum(d >= -close for d in drawn["fpr_op"])), p(sum(d <= -0.1 + close for d in drawn["sens_op"]))
    )
    more = max(
        p(sum(d <= close for d in drawn["fpr_op"])), p(sum(d >= 0.1 - close for d in drawn["sens_op"]))
    )
    assert found.p == pytest.approx(min(fewer, more))
    assert (found.fpr_low, found.fpr_high) == pytest.approx(
        percentile_limits(np.array(drawn["fpr_op"]), n_cases=20)
    )
    assert (found.sensitivity_low, found.sensitivity_high) == pytest.approx(
        percentile_limits(np.array(drawn["sens_op"]), n_cases=20)
    )


def test_without_an_operating_point_rates_are_compared_at_a_sensitivity():
    tables = [prediction_rows("ours", n_cases=30), prediction_rows("abmil", n_cases=30, shift=3.0)]
    bare = [[replace(row, op_prediction="") for row in table] for table in tables]
    (found,) = claims(resampled(*bare), margin=0.05)
    assert found.threshold == AT_SENSITIVITY
    assert (found.sensitivity, found.sensitivity_low, found.sensitivity_high) == (0, 0, 0)
    assert "at 0.90 sensitivity; p" in claim_words(found)


def test_arms_that_call_every_slide_the_same():
    rows = study("ours", fpr=0.5, sensitivity=0.9)
    (found,) = claims(resampled(rows, of_arm(rows, "ours+mb")), margin=0.05)
    assert (found.verdict, found.is_same) == ("not decided", True)
    assert claim_words(found) == (
        "ours+mb and ours: the same false-positive rate and sensitivity in every resample of cases"
    )


def test_claims_are_corrected_over_the_arms_with_one_reference():
    names = ("ours", "abmil", "gated", "max")
    rates = [(0.5, 0.9), (0.3, 0.9), (0.325, 0.9), (0.475, 0.9)]
    tables = [
        study(name, n=60, fpr=fpr, sensitivity=sens) for name, (fpr, sens) in zip(names, rates, strict=True)
    ]
    found = claims(resampled(*tables), margin=0.05)
    assert [one.other for one in found] == ["ours"] * 3
    assert [one.p_holm for one in found] == holm([one.p for one in found])
    assert all((one.verdict == "fewer") == (one.p_holm < 0.05) for one in found)


def test_one_case_or_one_label_allows_no_claim():
    rows = study("ours", n=2, fpr=1.0, sensitivity=1.0)
    alone = [replace(row, case_id="c") for row in rows]
    assert claims(resampled(alone, of_arm(alone, "ours+mb")), margin=0.05) == []


def test_words_of_a_claim():
    numbers = (-0.12, -0.2, -0.04, 0.01, -0.03, 0.05)
    fewer = Claim("ours+mb", "ours", "case", "grid", AT_OP, *numbers, 0.05, 0.01, 0.012, "fewer")
    both = "(FPR -0.120 [-0.200, -0.040], sensitivity +0.010 [-0.030, +0.050]; p 0.012)"
    assert claim_words(fewer) == f"ours+mb has fewer false positives than ours {both}"
    assert claim_words(replace(fewer, verdict="not decided", fpr_high=0.02)).startswith(
        "ours+mb and ours: not decided (FPR -0.120 [-0.200, +0.020], sensitivity"
    )
    touching = claim_words(replace(fewer, verdict="not decided", fpr_high=0.0))
    assert "the FPR is lower" not in touching, "its interval has 0 in it"
    unsure = replace(fewer, verdict="not decided", sensitivity_low=-0.1)
    assert "not decided; the FPR is lower, but the sensitivity may be lower by more than 0.05 (FPR" in (
        claim_words(unsure)
    )
    trade = replace(fewer, verdict="not decided", sensitivity=-0.2)
    assert "FPR and sensitivity both fell, as with a higher threshold; which is better" in claim_words(trade)
    assert not math.isnan(trade.p)


def test_noise_makes_few_claims():
    """Arms that guess with different thresholds: the rate falls, and the sensitivity with it."""
    n_claims = n_lower_rates = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        tables = []
        for name, share in (("ours", 0.7), ("abmil", 0.3), ("max", 0.5)):
            rows = study(name, n=60, fpr=0, sensitivity=0)
            called = rng.random(60) < share
            tables.append(
                [
                    replace(
                        row, op_prediction="tumour" if is_called else "normal", bag_score=float(rng.random())
                    )
                    for row, is_called in zip(rows, called, strict=True)
                ]
            )
        found = claims(resampled(*tables, n_resamples=400), margin=0.05)
        n_lower_rates += any(one.fpr_high < 0 for one in found)
        n_claims += any(one.verdict != "not decided" for one in found)
    assert n_lower_rates > 20, "the rate alone would often be called lower"
    assert n_claims <= 2
