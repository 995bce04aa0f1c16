"""Warnings about intervals and p, the same sentences on the terminal, on report.html and in the docs."""

from collections.abc import Iterable, Mapping

from hardmil.statistics.intervals import Interval

FEW_CASES = 40
"""Below this, intervals cover less reliably (docs/decisions/0011-intervals-for-few-cases.md)."""

FIXED_SENSITIVITY = (
    "p at a fixed sensitivity (0.90 or 0.95) is conservative: without a true difference, it is below 0.05 in "
    "0 to 2% of studies, not in 5%, so a large p does not show that two arms are equal."
)
"""Belongs next to every p of `fpr_at_sens_90` and `fpr_at_sens_95`."""


FEW_OF_A_CLASS = 10
"""Below this, the sensitivity of a class moves by more than 0.1 with each case."""


def few_of_a_class_notes(n_cases: Mapping[str, int]) -> list[str]:
    """What few cases of a class mean, as a list of one; empty if all classes have enough.

    Args:
        n_cases: The number of cases of each of more than two classes.
    """
    few = [f"{name} ({n})" for name, n in n_cases.items() if n < FEW_OF_A_CLASS]
    if not few:
        return []
    return [
        f"Few cases of {', '.join(few)}: with fewer than {FEW_OF_A_CLASS} of a class, its sensitivity moves "
        "by more than 0.1 with each case, and the means over the classes with it."
    ]


def few_cases_note(n_cases: int) -> str | None:
    """What few cases mean for intervals and p; None if there are enough."""
    if n_cases >= FEW_CASES:
        return None
    cases = "case" if n_cases == 1 else "cases"
    return (
        f"Only {n_cases} {cases}: with fewer than {FEW_CASES}, 95% intervals and p are rough, and p just "
        "below 0.05 may be chance."
    )


def few_cases_notes(found: Iterable[Interval]) -> list[str]:
    """The note for the arms with the fewest cases, as a list of one; empty if all arms have enough cases."""
    n_cases = min((one.n_cases for one in found), default=FEW_CASES)
    note = few_cases_note(n_cases)
    return [note] if note else []
