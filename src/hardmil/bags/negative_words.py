"""Labels that are usual words for negative."""

from collections.abc import Sequence

_NEGATIVE = frozenset(
    (
        *("normal", "benign", "negative", "neg", "control", "healthy", "absent", "none"),
        *("no", "false", "0", "0.0", "-", "wt", "wild-type", "wildtype", "wild type"),
    )
)
"""Labels that mean negative, where the other label means something else."""


def the_negative(labels: Sequence[str]) -> str | None:
    """The label that is a usual word for negative, such as normal; None if not exactly one is."""
    found = [label for label in labels if _is_negative(label)]
    return found[0] if len(found) == 1 else None


def _is_negative(label: str) -> bool:
    word = label.casefold().replace("_", "-").strip()
    return word in _NEGATIVE or word.startswith(("non-", "non ", "not-", "not ", "no-", "no "))
