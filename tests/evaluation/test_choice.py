import numpy as np
import pytest
from tests.support.many_classes import EXCLUSIVE, ORDERED, drawn_class_scores

from hardmil.config.evaluation import AutoConfig, Criterion
from hardmil.config.task import TaskConfig
from hardmil.evaluation.choice import Choice, choose
from hardmil.metrics import binary_metrics

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
CASES = [f"c{i}" for i in range(8)]
# AUC 15/16, 13/16 and 1; with the lowest positive bag alone 3/4, 1/4 and 1.
GOOD = np.array([0.1, 0.2, 0.3, 0.6, 0.5, 0.7, 0.8, 0.9])
POOR = np.array([0.1, 0.4, 0.5, 0.6, 0.3, 0.7, 0.8, 0.9])
BEST = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9])


def _choose(
    scores: dict[str, np.ndarray],
    criterion: Criterion = "auc",
    standard_errors: float = 0.0,
    operating_point: str = "sensitivity=0.90",
) -> Choice:
    auto = AutoConfig(criterion=criterion, standard_errors=standard_errors)
    return choose(scores, labels=LABELS, cases=CASES, auto=auto, operating_point=operating_point)


def test_the_candidate_with_the_best_scores_is_taken():
    choice = _choose({"a": GOOD, "b": POOR, "c": BEST})
    assert (choice.chosen, choice.criterion) == ("c", "auc")
    assert [one.name for one in choice.candidates] == ["a", "b", "c"]
    assert [one.value for one in choice.candidates] == [15 / 16, 13 / 16, 1.0]
    assert [one.below_best for one in choice.candidates] == [1 / 16, 3 / 16, 0.0]
    assert choice.candidates[2].se == 0
    assert all(0 < one.se < 0.5 for one in choice.candidates[:2])


def test_of_equally_good_candidates_the_first_is_taken():
    assert _choose({"a": POOR, "b": GOOD, "c": GOOD}).chosen == "b"


def test_a_preferred_candidate_within_the_standard_errors_is_taken():
    scores = {"a": POOR, "b": GOOD, "c": BEST}
    by_name = {one.name: one for one in _choose(scores).candidates}
    enough = by_name["a"].below_best / by_name["a"].se + 0.01
    assert _choose(scores, standard_errors=enough).chosen == "a"
    assert _choose(scores, standard_errors=0.01).chosen == "c"


@pytest.mark.parametrize(
    ("criterion", "operating_point", "values", "chosen"),
    [
        ("partial-auc", "sensitivity=0.90", [0.75, 0.25], "a"),
        # All positive bags must be found: 1 and 3 negative bags lie above the lowest of them.
        ("fpr", "sensitivity=0.90", [0.25, 0.75], "a"),
        ("fpr", "youden", [0.25, 0.75], "a"),
        ("fpr", "sensitivity=0.75", [0.0, 0.0], "a"),
    ],
)
def test_what_is_compared_can_be_set(
    criterion: Criterion, operating_point: str, values: list[float], chosen: str
):
    choice = _choose({"a": GOOD, "b": POOR}, criterion, operating_point=operating_point)
    assert [one.value for one in choice.candidates] == values
    assert choice.chosen == chosen
    assert all(one.below_best >= 0 for one in choice.candidates)


def test_standard_errors_are_by_case():
    scores = {"a": GOOD, "b": BEST}
    auto = AutoConfig()
    single = choose(scores, labels=LABELS, cases=CASES, auto=auto, operating_point="youden")
    # Four cases with a bag of each label: fewer units, more spread.
    paired = choose(scores, labels=LABELS, cases=CASES[:4] * 2, auto=auto, operating_point="youden")
    assert single.candidates[0].value == paired.candidates[0].value
    assert single.candidates[0].se != paired.candidates[0].se


def test_one_case_gives_no_standard_error_but_a_choice():
    choice = choose(
        {"a": GOOD, "b": BEST}, labels=LABELS, cases=["c"] * 8, auto=AutoConfig(), operating_point="youden"
    )
    assert (choice.chosen, choice.candidates[0].se) == ("b", 0.0)


@pytest.mark.parametrize("task", [EXCLUSIVE, ORDERED], ids=["exclusive", "ordered"])
def test_of_many_classes_the_mean_over_the_branches_is_compared(task: TaskConfig):
    labels = np.arange(30) % 3
    scores = {
        name: drawn_class_scores(labels, shift=shift, seed=1) for name, shift in (("a", 0.2), ("b", 3.0))
    }
    choice = choose(
        scores,
        labels=labels,
        cases=[f"c{i // 2}" for i in range(30)],
        auto=AutoConfig(),
        operating_point="youden",
        task=task,
    )
    assert choice.chosen == "b"
    for one in choice.candidates:
        expected = [
            binary_metrics(yes.astype(np.int64), score).auc
            for yes, score in zip(task.answers(labels).T, task.branch_scores(scores[one.name]).T, strict=True)
        ]
        assert one.value == pytest.approx(np.mean(expected))
        assert one.se > 0 or one.name == "b"
