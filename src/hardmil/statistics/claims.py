"""Whether an arm has fewer false positives: one statement about its false-positive rate and its sensitivity.

A lower rate alone says nothing: any model has fewer false positives with a higher threshold, and finds less.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from hardmil.bootstrap import percentile_limits, widened_p
from hardmil.statistics.comparisons import can_compare, family_of, holm_by_family, standard_pairs
from hardmil.statistics.intervals import ResampledArm, mean_of_defined

Verdict = Literal["fewer", "more", "not decided"]
LEVEL = 0.05
AT_OP, AT_SENSITIVITY = "operating point", "0.90 sensitivity"
RATE_AT = {AT_OP: "fpr_op", AT_SENSITIVITY: "fpr_at_sens_90"}
"""The false-positive rate at each threshold. The second is taken from the test scores, where no operating
point was set: both arms then have the same sensitivity."""


@dataclass(frozen=True)
class Claim:
    """Arm minus other in FPR and sensitivity, at one threshold each; a row of claims.csv.

    `verdict` is *fewer* where the FPR is lower and the sensitivity is not lower by more than `margin`, *more*
    where the FPR is higher and the sensitivity is not higher by more than it, both with `p_holm` below 0.05.
    """

    arm: str
    other: str
    split: str
    patches: str
    threshold: str
    fpr: float
    fpr_low: float
    fpr_high: float
    sensitivity: float
    sensitivity_low: float
    sensitivity_high: float
    margin: float
    p: float
    p_holm: float
    verdict: str
    class_name: str = ""

    @property
    def is_same(self) -> bool:
        """Whether nothing differs in any resample, as where an arm mined nothing."""
        return not any((self.fpr, self.fpr_low, self.fpr_high, self.sensitivity_low, self.sensitivity_high))

    @property
    def is_trade(self) -> bool:
        """Whether FPR and sensitivity both fell, or both rose by more than the margin, as by a threshold."""
        return self.fpr * self.sensitivity > 0 and abs(self.sensitivity) > self.margin


def claims(arms: Sequence[ResampledArm], *, margin: float) -> list[Claim]:
    """The claim of each standard comparison of a study, see `compare_arms`.

    At the operating point, or at a sensitivity of 0.90 where none was set. Holm's correction is as for
    differences.

    Args:
        arms: The arms on the same draws of cases.
        margin: How much lower a sensitivity may be that counts as not lower.
    """
    pairs = [pair for pair in standard_pairs(arms) if can_compare(*pair)]
    found = [claim for pair in pairs if (claim := _claim(*pair, margin=margin)) is not None]
    families = [
        (family_of(one.arm, one.other, class_name=one.class_name), one.split, one.patches, one.threshold)
        for one in found
    ]
    p_values = holm_by_family([one.p for one in found], families=families)
    return [
        replace(one, p_holm=p, verdict=one.verdict if p < LEVEL else "not decided")
        for one, p in zip(found, p_values, strict=True)
    ]


def claim_words(claim: Claim) -> str:
    """A claim as a sentence, with both differences."""
    pair = f"{claim.arm} and {claim.other}"
    if claim.is_same:
        return f"{pair}: the same false-positive rate and sensitivity in every resample of cases"
    if claim.verdict == "not decided":
        what = f"{pair}: not decided"
        if claim.is_trade:
            how = "fell, as with a higher" if claim.fpr < 0 else "rose, as with a lower"
            what = f"{pair}: FPR and sensitivity both {how} threshold; which is better is not decided"
        elif claim.fpr_high < 0:
            why = f"the FPR is lower, but the sensitivity may be lower by more than {claim.margin:g}"
            what = f"{pair}: not decided; {why}"
    else:
        what = f"{claim.arm} has {claim.verdict} false positives than {claim.other}"
    fpr = _difference_words(claim.fpr, claim.fpr_low, claim.fpr_high)
    sensitivity = _difference_words(claim.sensitivity, claim.sensitivity_low, claim.sensitivity_high)
    where = f" at {AT_SENSITIVITY}" if claim.threshold == AT_SENSITIVITY else f", sensitivity {sensitivity}"
    return f"{what} (FPR {fpr}{where}; p {claim.p_holm:.3f})"


def _difference_words(value: float, low: float, high: float) -> str:
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def _claim(one: ResampledArm, other: ResampledArm, *, margin: float) -> Claim | None:
    """The claim of a pair, not yet corrected; None where no rate could be compared."""
    for threshold, metric in RATE_AT.items():
        fpr, fpr_drawn = _difference(one, other, metric=metric)
        if math.isnan(fpr) or np.isnan(fpr_drawn).all():
            continue
        if threshold == AT_OP:
            sensitivity, drawn = _difference(one, other, metric="sens_op")
        else:
            sensitivity, drawn = 0.0, np.zeros_like(fpr_drawn)
        n_cases = one.n_cases
        fewer = max(_p(fpr_drawn, n_cases=n_cases), _p(-drawn - margin, n_cases=n_cases))
        more = max(_p(-fpr_drawn, n_cases=n_cases), _p(drawn - margin, n_cases=n_cases))
        verdict: Verdict = "fewer" if fewer <= more else "more"
        limits = (
            *(fpr, *percentile_limits(fpr_drawn, n_cases=n_cases)),
            *(sensitivity, *percentile_limits(drawn, n_cases=n_cases)),
        )
        p = min(fewer, more)
        arm, split, patches, class_name = one.key
        pair = (arm, other.key.arm, split, patches, threshold)
        return Claim(*pair, *limits, margin, p, p, verdict, class_name)
    return None


def _difference(
    one: ResampledArm, other: ResampledArm, *, metric: str
) -> tuple[float, Float[np.ndarray, " resample"]]:
    """One arm minus another, mean over repeats: as observed, and on each resample."""
    i = one.metrics.index(metric)
    observed = float(mean_of_defined(one.observed[i] - other.observed[i]))
    return observed, mean_of_defined(one.resampled[i] - other.resampled[i], axis=0)


def _p(differences: Float[np.ndarray, " resample"], *, n_cases: int) -> float:
    """P of "not below 0", on the scale of a two-sided p: below 0.05 where the 95% interval is below 0.

    The larger of two such p, of the FPR and of the sensitivity, is that of the intersection-union test.

    Source: Berger 1982: all parts of a joint statement tested at a level, the statement holds at this level.
    """
    defined = np.round(differences[~np.isnan(differences)], 12)
    share = (int(np.sum(defined >= 0)) + 1) / (len(defined) + 1)
    return widened_p(min(1.0, 2 * share), n_cases=n_cases)
