"""The numbers printed in the paper."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A printed mean and its standard error."""

    mean: float
    se: float | None = None


def _row(*cells: tuple[float, float] | None) -> dict[str, Published]:
    names = ("accuracy", "precision", "recall", "f_score", "auc", "fpr")
    return {name: Published(*cell) for name, cell in zip(names, cells, strict=True) if cell is not None}


PAPER_ARMS = ("abmil", "gated", "ours", "ours+sb", "ours+mb", "ours+fmb")

# Li et al. 2019, Tables 1 and 2. The MIL model is quoted there from Ilse et al. 2018: its plain attention on
# colon, its gated attention on UCSB.
PAPER: Mapping[str, Mapping[str, Mapping[str, Published]]] = {
    "colon": {
        "abmil": _row((0.904, 0.011), (0.953, 0.014), (0.855, 0.017), (0.901, 0.011), (0.968, 0.009), None),
        "ours": _row(
            (0.906, 0.007), (0.912, 0.010), (0.916, 0.012), (0.905, 0.008), (0.952, 0.012), (0.104, 0.012)
        ),
        "ours+sb": _row(
            (0.922, 0.004), (0.937, 0.011), (0.920, 0.014), (0.920, 0.005), (0.979, 0.004), (0.084, 0.012)
        ),
        "ours+mb": _row(
            (0.942, 0.005), (0.963, 0.010), (0.928, 0.017), (0.939, 0.006), (0.982, 0.009), (0.052, 0.010)
        ),
        "ours+fmb": _row(
            (0.948, 0.004), (0.980, 0.003), (0.920, 0.006), (0.945, 0.004), (0.983, 0.004), (0.036, 0.007)
        ),
    },
    "ucsb": {
        "gated": _row((0.755, 0.016), (0.728, 0.016), (0.731, 0.042), (0.725, 0.023), (0.799, 0.020), None),
        "ours": _row(
            (0.821, 0.006), (0.870, 0.032), (0.800, 0.038), (0.806, 0.011), (0.942, 0.008), (0.220, 0.058)
        ),
        "ours+sb": _row(
            (0.893, 0.001), (0.920, 0.012), (0.886, 0.024), (0.887, 0.015), (0.949, 0.006), (0.140, 0.019)
        ),
        "ours+mb": _row(
            (0.936, 0.004), (0.936, 0.011), (0.943, 0.014), (0.935, 0.005), (0.967, 0.004), (0.100, 0.016)
        ),
        "ours+fmb": _row(
            (0.975, 0.008), (0.975, 0.012), (0.979, 0.009), (0.975, 0.007), (0.999, 0.001), (0.040, 0.019)
        ),
    },
}
