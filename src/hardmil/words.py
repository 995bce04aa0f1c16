"""Numbers and lists in words."""

from collections.abc import Sequence


def count(n: int, thing: str) -> str:
    """`1 slide`, `2 slides`, `2 patches`."""
    ending = "" if n == 1 else "es" if thing.endswith(("ch", "s", "x")) else "s"
    return f"{n} {thing}{ending}"


def some_of(names: Sequence[str], *, most: int = 3) -> str:
    """`a, b, c and 2 more`."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
