import pytest

from hardmil.paper.tables import PAPER, PAPER_ARMS, Published


@pytest.mark.parametrize(
    ("name", "arm", "metric", "mean", "se"),
    [
        ("colon", "abmil", "precision", 0.953, 0.014),
        ("colon", "ours", "accuracy", 0.906, 0.007),
        ("colon", "ours", "fpr", 0.104, 0.012),
        ("colon", "ours+sb", "auc", 0.979, 0.004),
        ("colon", "ours+mb", "recall", 0.928, 0.017),
        ("colon", "ours+fmb", "f_score", 0.945, 0.004),
        ("colon", "ours+fmb", "fpr", 0.036, 0.007),
        ("ucsb", "gated", "auc", 0.799, 0.020),
        ("ucsb", "ours", "recall", 0.800, 0.038),
        ("ucsb", "ours+sb", "accuracy", 0.893, 0.001),
        ("ucsb", "ours+mb", "fpr", 0.100, 0.016),
        ("ucsb", "ours+fmb", "auc", 0.999, 0.001),
        ("ucsb", "ours+fmb", "fpr", 0.040, 0.019),
    ],
)
def test_numbers_are_the_papers(name: str, arm: str, metric: str, mean: float, se: float):
    assert PAPER[name][arm][metric] == Published(mean, se)


def test_cells_the_paper_leaves_empty():
    assert set(PAPER["colon"]) | set(PAPER["ucsb"]) == set(PAPER_ARMS)
    assert "fpr" not in PAPER["colon"]["abmil"]
    assert "fpr" not in PAPER["ucsb"]["gated"]
    assert sum(len(row) for arms in PAPER.values() for row in arms.values()) == 2 * (5 + 4 * 6)
