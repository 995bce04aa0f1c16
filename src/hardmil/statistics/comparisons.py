"""Comparisons of two arms on the same draws of cases: difference, 95% interval, p, Holm's correction."""

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from hardmil.bootstrap import percentile_limits, widened_p
from hardmil.config.task import MACRO
from hardmil.evaluation.arm_name import CONTROL, parse_arm_name
from hardmil.statistics.intervals import ResampledArm, mean_of_defined

REFERENCE = "ours"
"""The base that other bases are compared with, if it is among the arms."""


@dataclass(frozen=True)
class Comparison:
    """Arm minus other in one metric; a row of comparisons.csv."""

    arm: str
    other: str
    split: str
    patches: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    class_name: str = ""

    @property
    def is_hard_minus_random(self) -> bool:
        """Whether the other arm is the random control of this arm."""
        return self.other == parse_arm_name(self.arm).its_control


def compare_arms(arms: Sequence[ResampledArm]) -> list[Comparison]:
    """The standard comparisons of a study, for arms that were run on the same slides and repeats.

    They are: every arm minus its base, every other base minus `ours`, and every mining arm minus its random
    control. Holm's correction is over comparisons with the same metric, split, patches and reference. All
    random controls count as one reference; otherwise there would be no correction over them.
    """
    pairs = [pair for pair in standard_pairs(arms) if can_compare(*pair)]
    return holm_corrected(comparison for one, other in pairs for comparison in compare(one, other))


def not_comparable(arms: Sequence[ResampledArm]) -> list[tuple[str, str]]:
    """(arm, other) of standard comparisons between arms that were not run on the same slides and folds."""
    whole = [one for one in arms if one.key.class_name in ("", MACRO)]
    return [
        (one.key.arm, other.key.arm) for one, other in standard_pairs(whole) if not can_compare(one, other)
    ]


def standard_pairs(arms: Sequence[ResampledArm]) -> list[tuple[ResampledArm, ResampledArm]]:
    """The standard comparisons within each split and kind of patches, as (arm, other)."""
    by_setting: dict[tuple[str, ...], dict[str, ResampledArm]] = {}
    for one in arms:
        arm, *setting = one.key
        by_setting.setdefault(tuple(setting), {})[arm] = one
    return [(here[arm], here[other]) for here in by_setting.values() for arm, other in usual_pairs(here)]


def usual_pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """(arm, other) of every comparison with a base or a control, if both are among the names."""
    given = list(dict.fromkeys(names))
    pairs: list[tuple[str, str]] = []
    for name in map(parse_arm_name, given):
        reference = name.base if name.text != name.base else REFERENCE
        others = [other for other in (reference, name.its_control) if other in given and other != name.text]
        pairs += [(name.text, other) for other in others]
    return pairs


def can_compare(one: ResampledArm, other: ResampledArm) -> bool:
    """Whether both were run on the same slides, folds, repeats and patches."""
    return one.key[1:] == other.key[1:] and one.bags == other.bags


def compare(one: ResampledArm, other: ResampledArm) -> list[Comparison]:
    """One arm minus another in each metric; `p_holm` is not yet corrected.

    Differences are taken repeat by repeat on the same draws of cases, then averaged over the repeats in which
    both are defined. Limits are `percentile_limits`, p is `bootstrap_p`. Interval and p cover only
    what `intervals` covers: two arms may differ with p < 0.05 only because of their seeds.

    Raises:
        ValueError: If they were not run on the same slides and repeats.
    """
    if not can_compare(one, other):
        raise ValueError(
            f"{one.key} and {other.key} were run on different slides or repeats; expected the same"
        )
    values = mean_of_defined(one.observed - other.observed)
    drawn = mean_of_defined(one.resampled - other.resampled, axis=1)
    arm, split, patches, class_name = one.key
    found: list[Comparison] = []
    for i, metric in enumerate(one.metrics):
        low, high = percentile_limits(drawn[i], n_cases=one.n_cases)
        p = bootstrap_p(drawn[i], n_cases=one.n_cases)
        pair = (arm, other.key.arm, split, patches, metric)
        found.append(Comparison(*pair, float(values[i]), low, high, p, p, class_name))
    return found


def bootstrap_p(differences: Float[np.ndarray, " resample"], *, n_cases: int) -> float:
    """Two-sided p of "no difference" from resampled differences; NaN if none is defined.

    Twice the smaller share of resamples in which the difference is not above, or not below, 0, with the
    observed sample as one of them; at most 1; widened as the interval is. So it inverts the interval: below
    0.05 where the 95% interval excludes 0, up to the +1.

    Source: Davison and Hinkley 1997, chapter 4: (1 + number as extreme) / (1 + resamples), never 0.
    """
    defined = differences[~np.isnan(differences)]
    if len(defined) == 0:
        return math.nan
    # .1 + .2 - .3 is 5.6e-17: without rounding, a tie over repeats would count for one side only.
    defined = np.round(defined, 12)
    smaller = min(int(np.sum(defined <= 0)), int(np.sum(defined >= 0)))
    return widened_p(min(1.0, 2 * (smaller + 1) / (len(defined) + 1)), n_cases=n_cases)


def by_pair(comparisons: Iterable[Comparison]) -> dict[tuple[str, ...], dict[str, Comparison]]:
    """The comparisons by (arm, other, split, patches, class), then by metric."""
    found: dict[tuple[str, ...], dict[str, Comparison]] = {}
    for one in comparisons:
        pair = (one.arm, one.other, one.split, one.patches, one.class_name)
        found.setdefault(pair, {})[one.metric] = one
    return found


def holm_corrected(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """The same with `p_holm`; comparisons with undefined p are not corrected for."""
    found = list(comparisons)
    families = [
        (family_of(one.arm, one.other, class_name=one.class_name), one.split, one.patches, one.metric)
        for one in found
    ]
    p_values = holm_by_family([one.p for one in found], families=families)
    return [replace(one, p_holm=p) for one, p in zip(found, p_values, strict=True)]


def family_of(arm: str, other: str, *, class_name: str) -> tuple[str, bool]:
    """What p is corrected over: comparisons with one reference, where random controls count as one.

    With more than two classes, the means over the classes are one family, and all classes another.
    """
    reference = CONTROL if other == parse_arm_name(arm).its_control else other
    return reference, class_name not in ("", MACRO)


def holm_by_family(p_values: Sequence[float], *, families: Sequence[Hashable]) -> list[float]:
    """Holm's correction within each family, in the order given; NaN stays, and is not corrected for."""
    members: dict[Hashable, list[int]] = {}
    for i, (p, family) in enumerate(zip(p_values, families, strict=True)):
        if not math.isnan(p):
            members.setdefault(family, []).append(i)
    corrected = [math.nan] * len(p_values)
    for some in members.values():
        for i, p in zip(some, holm([p_values[i] for i in some]), strict=True):
            corrected[i] = p
    return corrected


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given.

    Source: Holm 1979: the k-th smallest of m is multiplied by m - k + 1; none is smaller than the one before.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected
