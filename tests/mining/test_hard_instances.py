import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardmil.bags.bag import Bag
from hardmil.errors import BagError, EmptyBagError
from hardmil.mil.bag_score import BagScore
from hardmil.mining.hard_instances import (
    HardInstance,
    false_positive_bags,
    hard_instances,
    mine_instances,
    random_instances,
    with_clusters,
)

LOGITS = st.lists(st.floats(-6, 6, width=32), min_size=1, max_size=15)


def _softmax(logits: list[float]) -> np.ndarray:
    exponentials = np.exp(np.array(logits) - max(logits))
    return (exponentials / exponentials.sum()).astype(np.float32)


def _brute_force(w: list[float], *, n_sigma: float) -> tuple[list[int], list[int]]:
    """Eq. 3 as written: instances surely hard, and those so close to the threshold that rounding decides."""
    mean = sum(w) / len(w)
    std = (sum((x - mean) ** 2 for x in w) / len(w)) ** 0.5
    if std < 1e-5 * mean:
        return [], [] if std < 1e-7 * mean else list(range(len(w)))
    order = sorted(range(len(w)), key=lambda j: (-w[j], j))
    limit, margin = mean + n_sigma * std, 1e-5 * mean
    return [j for j in order if w[j] >= limit + margin], [j for j in order if abs(w[j] - limit) < margin]


@given(LOGITS, st.sampled_from([0.0, 0.2, 1.0, 2.0]))
def test_hard_instances_against_brute_force(logits: list[float], n_sigma: float):
    w = _softmax(logits)
    sure, close = _brute_force(w.tolist(), n_sigma=n_sigma)
    found = hard_instances(w, n_sigma=n_sigma).tolist()
    assert set(sure) <= set(found) <= set(sure) | set(close)
    assert found == sorted(found, key=lambda j: (-w[j], j))


def test_by_hand():
    # mean 0.2, std 0.1265: 0.3265 and more is hard.
    w = np.array([0.1, 0.35, 0.1, 0.35, 0.1], np.float32)
    assert hard_instances(w, n_sigma=1.2).tolist() == [1, 3]
    assert hard_instances(w, n_sigma=1.3).tolist() == []
    assert hard_instances(np.array([0.2, 0.1, 0.7]), n_sigma=1.0).tolist() == [2]


@pytest.mark.parametrize("n", [1, 2, 3, 10, 997, 30_001])
def test_flat_attention_names_no_instance(n: int):
    assert hard_instances(np.full(n, 1 / n, np.float32)).tolist() == []
    assert hard_instances(np.full(n, 1 / n, np.float32), n_sigma=0.0).tolist() == []


@pytest.mark.parametrize("n", [10, 1000, 10_000])
def test_small_differences_count_in_bags_of_any_size(n: int):
    """A thousandth of the mean is no rounding, however small the mean is."""
    w = np.full(n, 1 / n)
    w[3] *= 1.001
    assert hard_instances(w).tolist() == [3]


@given(st.floats(0.001, 0.499), st.integers(1, 30), st.sampled_from([np.float32, np.float64]))
def test_the_higher_half_is_always_hard(low: float, n: int, dtype: type[np.floating]):
    # mean + std is its attention exactly: rounding must not decide.
    w = np.array([1 - low, low] * n, dtype) / n
    assert hard_instances(w).tolist() == list(range(0, 2 * n, 2))


@given(st.permutations(list(range(9))))
def test_hard_instances_do_not_mind_the_order(order: list[int]):
    w = _softmax([0.1, 2.0, -1.0, 2.5, 0.3, -2.0, 0.0, 1.0, 0.2])
    found = hard_instances(w[order])
    assert [order[j] for j in found] == hard_instances(w).tolist()


def test_a_bag_without_instances():
    with pytest.raises(EmptyBagError, match="bag without instances"):
        hard_instances(np.array([], np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("broken", [[0], [1, 3], [0, 1, 2, 3]], ids=["one", "some", "all"])
def test_attention_that_is_not_a_number_is_refused(broken: list[int], value: float):
    w = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    w[broken] = value
    with pytest.raises(BagError, match=rf"^attention: {len(broken)} of 4 values are NaN .*lower train"):
        hard_instances(w)
    scores = [_score(0.9), _score(0.9, w)]
    message = rf"slide s2: {len(broken)} of 4 values of the attention are NaN .*expected numbers; .*lower"
    with pytest.raises(BagError, match=message):
        mine_instances([_bag(1, 0), _bag(2, 0)], scores=scores, n_sigma=1.0, number=1, source="train")
    with pytest.raises(BagError, match=message):
        false_positive_bags([_bag(1, 0), _bag(2, 0)], scores=scores, threshold=0.5)


@pytest.mark.parametrize("threshold", [0.5, "sensitivity=0.95"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("label", [0, 1])
def test_a_score_that_is_not_a_number_is_refused(label: int, value: float, threshold: float | str):
    """A NaN is above no threshold: its bag would never be a false positive."""
    bags, scores = [_bag(0, 1), _bag(1, 0), _bag(2, label)], [_score(0.7), _score(0.9), _score(value)]
    with pytest.raises(BagError, match="slide s2: 1 of 1 values of the score are NaN or infinite"):
        false_positive_bags(bags, scores=scores, threshold=threshold)


def _bag(number: int, label: int, *, n: int = 4) -> Bag:
    coords = np.stack([np.arange(n) * 10 + number, np.arange(n) * 100 + number], axis=1)
    return Bag(f"s{number}", f"c{number // 2}", label, np.zeros((n, 2), np.float32), coords, 7)


def _score(value: float, attention: np.ndarray | None = None) -> BagScore:
    w = np.full(4, 0.25, np.float32) if attention is None else attention
    return BagScore(value, w, np.zeros(len(w), np.float32))


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 10)), min_size=1, max_size=30),
    st.sampled_from([0.5, 0.0, 1.0, "sensitivity=0.95", "sensitivity=0.6", "sensitivity=1"]),
)
def test_false_positive_bags_against_a_loop(drawn: list[tuple[int, int]], threshold: float | str):
    bags = [_bag(i, label) for i, (label, _) in enumerate(drawn)]
    scores = [_score(tenths / 10) for _, tenths in drawn]
    positives = [tenths for label, tenths in drawn if label == 1]
    expected: list[int] = []
    for i, (label, tenths) in enumerate(drawn):
        if label == 1:
            continue
        if isinstance(threshold, float):
            wrong = tenths / 10 > threshold
        else:
            percent = round(100 * float(threshold.partition("=")[2]))
            # The largest limit that `percent` of the positive bags reach: this bag reaches it too.
            limits = [
                t for t in positives if 100 * sum(p >= t for p in positives) >= percent * len(positives)
            ]
            wrong = bool(limits) and tenths >= max(limits)
        expected += [i] if wrong else []
    assert false_positive_bags(bags, scores=scores, threshold=threshold) == expected


def test_bags_of_unknown_label_do_not_count():
    bags, scores = [_bag(0, -1), _bag(1, 0)], [_score(0.9), _score(0.9)]
    assert false_positive_bags(bags, scores=scores, threshold=0.5) == [1]


def test_mined_instances_have_their_origin():
    bags = [_bag(3, 0), _bag(4, 0), _bag(5, 0)]
    first, third = np.array([0.05, 0.5, 0.05, 0.4]), np.array([0.9, 0.05, 0.03, 0.02])
    scores = [_score(0.75, first), _score(0.625), _score(0.875, third)]
    found = mine_instances(bags, scores=scores, n_sigma=0.5, number=2, source="out-of-fold")
    assert [one.key for one in found] == [("s3", 1), ("s3", 3), ("s5", 0)]
    assert found[1] == HardInstance(
        round=2,
        slide_id="s3",
        case_id="c1",
        instance=3,
        x=33,
        y=303,
        size_level0=7,
        attention=0.4,
        bag_score=0.75,
        cluster=-1,
        source="out-of-fold",
    )
    assert [one.cluster for one in with_clusters(found, clusters=np.array([2, 0, 1]))] == [2, 0, 1]


def _random(*, n: int, seed: int = 0, known: tuple[tuple[str, int], ...] = ()) -> list[HardInstance]:
    bags = [_bag(i, int(i == 1), n=3 + i) for i in range(4)]
    scores = [_score(i / 8, np.linspace(0.1, 0.2, 3 + i)) for i in range(4)]
    return random_instances(bags, scores=scores, n=n, number=1, seed=seed, known=known)


def test_the_control_draws_from_negative_bags_none_twice():
    everything = {("s0", j) for j in range(3)} | {("s2", j) for j in range(5)} | {("s3", j) for j in range(6)}
    found = _random(n=14)
    assert {one.key for one in found} == everything
    assert {one.source for one in found} == {"random"}
    one = next(one for one in found if one.key == ("s3", 2))
    assert (one.x, one.y, one.bag_score) == (23, 203, 0.375)
    assert one.attention == pytest.approx(0.14)
    for n in (1, 5, 9):
        keys = [one.key for one in _random(n=n)]
        assert len(set(keys)) == len(keys) == n
        assert set(keys) <= everything


def test_the_control_is_drawn_by_its_seed_each_instance_as_often():
    assert _random(n=5, seed=3) == _random(n=5, seed=3)
    counts = dict.fromkeys((one.key for one in _random(n=14)), 0)
    for seed in range(1000):
        for one in _random(n=7, seed=seed):
            counts[one.key] += 1
    assert all(430 < count < 570 for count in counts.values()), counts


def test_the_control_leaves_out_what_is_known():
    known = tuple(one.key for one in _random(n=9))
    later = {one.key for one in _random(n=5, known=known)}
    assert len(later) == 5
    assert not later & set(known)
