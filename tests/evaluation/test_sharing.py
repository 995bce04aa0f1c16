from pathlib import Path

from tests.support.evaluations import make_evaluation

from hardmil.evaluation.sharing import groups_of


def _groups(*arms: str) -> list[list[tuple[str, int]]]:
    trials = make_evaluation(Path(), arms=arms, only_folds=(0, 1)).trials()
    return [[(t.arm.name, t.fold_number) for t in group] for group in groups_of(trials)]


def test_trials_share_within_a_fold_and_a_base():
    found = _groups("ours", "abmil", "ours+instance", "ours+mb", "ours+weigh")
    fold = [["ours", "ours+mb"], ["abmil"], ["ours+instance", "ours+weigh"]]
    assert found == [[(name, number) for name in names] for number in (0, 1) for names in fold]


def test_the_arm_that_leaves_inner_models_goes_first():
    arms = ("ours+fmb", "ours", "ours+fmb-oof-rounds", "ours+mb-oof", "ours+verdicts+sb-oof")
    first, _ = _groups(*arms)
    order = ["ours+mb-oof", "ours+fmb-oof-rounds", "ours", "ours+fmb", "ours+verdicts+sb-oof"]
    assert [name for name, _ in first] == order


def test_without_such_an_arm_the_shortest_goes_first():
    assert [[name for name, _ in group] for group in _groups("ours+fmb", "ours")] == [
        ["ours", "ours+fmb"]
    ] * 2


def test_arms_that_only_score_differently_share_and_auto_comes_last():
    found = _groups("auto", "ours-top5", "abmil", "ours")
    fold = [["ours-top5", "ours"], ["abmil"]]
    shared = [[(name, number) for name in names] for number in (0, 1) for names in fold]
    assert found == [*shared, [("auto", 0)], [("auto", 1)]]


def test_an_arm_that_judges_its_own_instances_leaves_inner_models():
    (group,) = _groups("ours", "ours+fmb", "ours+pseudo")[:1]
    assert [name for name, _ in group] == ["ours+pseudo", "ours", "ours+fmb"]
