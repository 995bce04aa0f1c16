"""The weighted metrics against metrics.py on rows that really are duplicated."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hardmil.statistics.pooled_predictions import PooledRepeat
from hardmil.statistics.summary import pooled_metrics
from hardmil.statistics.weighted_metrics import RESAMPLED, weighted_metrics

# Few distinct scores, so that ties are common; .5 is among them.
BAG = st.tuples(st.integers(0, 1), st.integers(0, 6).map(lambda k: k / 6), st.booleans(), st.integers(0, 3))


def pooled_repeat(bags: list[tuple[int, float, bool]], *, knows_op: bool = True) -> PooledRepeat:
    labels, scores, called = (np.array([bag[i] for bag in bags]) for i in range(3))
    names = tuple((0, f"s{i}") for i in range(len(bags)))
    cases = tuple(name for _, name in names)
    at_op = called.astype(bool) if knows_op else None
    return PooledRepeat(0, names, cases, labels.astype(np.int64), scores.astype(np.float64), at_op)


@given(st.lists(BAG, min_size=1, max_size=25), st.booleans())
def test_every_metric_is_that_of_rows_really_duplicated(
    bags: list[tuple[int, float, bool, int]], knows_op: bool
):
    repeat = pooled_repeat([bag[:3] for bag in bags], knows_op=knows_op)
    weights = np.array([[bag[3] for bag in bags], [1] * len(bags)])
    found = weighted_metrics(repeat, weights=weights)
    for number, row in enumerate(weights):
        copies = [bag[:3] for bag, weight in zip(bags, row, strict=True) for _ in range(weight)]
        if not copies:
            assert np.isnan(found[:, number]).all()
            continue
        expected = pooled_metrics(pooled_repeat(copies, knows_op=knows_op))
        for i, name in enumerate(RESAMPLED):
            np.testing.assert_allclose(found[i, number], expected[name], rtol=1e-12, err_msg=name)


def test_a_worked_example():
    repeat = pooled_repeat([(1, 0.9, True), (1, 0.4, False), (0, 0.6, True), (0, 0.1, False)])
    found = weighted_metrics(repeat, weights=np.array([[1, 1, 1, 1], [3, 1, 0, 2], [1, 9, 1, 1]]))
    values = dict(zip(RESAMPLED, found, strict=True))
    np.testing.assert_allclose(values["pooled_accuracy"], [2 / 4, 5 / 6, 2 / 12])
    np.testing.assert_allclose(values["pooled_auc"], [3 / 4, 1, 11 / 20])
    # 90% of two or of four positive bags are all of them, of ten they are nine: .4 is reached every time.
    np.testing.assert_allclose(values["fpr_at_sens_90"], [1 / 2, 0, 1 / 2])
    np.testing.assert_allclose(values["sens_op"], [1 / 2, 3 / 4, 1 / 10])
    np.testing.assert_allclose(values["fpr_op"], [1 / 2, 0, 1 / 2])
