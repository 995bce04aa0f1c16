import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score  # pyright: ignore[reportMissingTypeStubs,reportUnknownVariableType]

from hardmil.mining.verdict_store import JudgedPatch, StoredVerdict
from hardmil.review.agreement import Agreement, agreements, cohen_kappa
from hardmil.review.answers import TWO_CLASS_WORDS

CASES = {f"s{i}": f"c{i // 2}" for i in range(40)}


def _verdicts(reviewer: str, *, said: list[int], start: int = 0) -> list[StoredVerdict]:
    """One verdict a slide, from slide `start` on."""
    return [
        StoredVerdict(
            i, "", reviewer, JudgedPatch(f"s{i}", 0, 0, 9), TWO_CLASS_WORDS[one], "queue", None, False, i
        )
        for i, one in enumerate(said, start=start)
    ]


def _two(*, seed: int, noise: float) -> tuple[list[int], list[int]]:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 4, 40)
    second = np.where(rng.uniform(size=40) < noise, rng.integers(0, 4, 40), first)
    return first.tolist(), second.tolist()


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_kappa_is_that_of_scikit_learn(seed: int, noise: float):
    first, second = _two(seed=seed, noise=noise)
    (found,) = agreements(_verdicts("b", said=second) + _verdicts("a", said=first), cases=CASES, seed=0)
    assert (found.reviewers, found.n) == (("a", "b"), 40)
    assert found.kappa == pytest.approx(cohen_kappa_score(first, second))
    assert found.low <= found.kappa <= found.high
    assert found.table[first[0]][second[0]] > 0


def _known(**numbers: float) -> Agreement:
    first, second = _two(seed=1, noise=0.3)
    verdicts = _verdicts("a", said=first) + _verdicts("b", said=second)
    cases = CASES if not numbers else {f"s{i}": f"c{i // numbers['slides']}" for i in range(40)}
    (found,) = agreements(verdicts, cases=cases, seed=0)
    return found


def test_the_interval_is_by_case():
    by_case, large_cases, one_case = _known(), _known(slides=10), _known(slides=40)
    assert 0.05 < by_case.high - by_case.low < 0.6
    assert large_cases.low != by_case.low
    assert np.isnan([one_case.low, one_case.high]).all()


def test_only_patches_that_both_judged_count():
    a, b = _verdicts("a", said=[0] * 10), _verdicts("b", said=[0, 1] * 10, start=5)
    c = _verdicts("c", said=[1], start=30)
    (found,) = agreements([*a, *b, *c], cases={}, seed=0)
    assert (found.reviewers, found.n) == (("a", "b"), 5)
    assert found.table == ((3, 2, 0, 0), *((0,) * 4,) * 3)
    assert found.kappa == 0


def test_kappa_is_not_defined_where_both_always_say_the_same_one():
    tables = np.zeros((2, 4, 4), dtype=np.int64)
    tables[0, 1, 1] = 7
    assert np.isnan(cohen_kappa(tables)).all()
