import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardmil.config.model import PoolingConfig
from hardmil.mil.logit_pooling import (
    LogitPooling,
    MaxPooling,
    MeanPooling,
    NoisyAndPooling,
    QuantilePooling,
    TopKPooling,
    logit_pooling,
)

KINDS = ("mean", "max", "topk", "noisy-and", "quantile")
TOP_K = 3
# Bags of one to six instances, each with its logits.
LOGITS = st.lists(st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=6), min_size=1, max_size=5)


def _pooling(kind: str) -> LogitPooling:
    pooling = logit_pooling(PoolingConfig.model_validate({"kind": kind, "top_k": TOP_K}))
    assert pooling is not None
    return pooling


def _sigmoid(t: float) -> float:
    return 1 / (1 + np.exp(-t))


@pytest.mark.parametrize(
    ("kind", "expected"),
    list(zip(KINDS, (MeanPooling, MaxPooling, TopKPooling, NoisyAndPooling, QuantilePooling), strict=True)),
)
def test_config_names_the_pooling(kind: str, expected: type):
    assert type(_pooling(kind)) is expected


@pytest.mark.parametrize(
    "kind", ["adaptive-attention", "attention", "gated-attention", "linear-attention", "conjunctive"]
)
def test_attention_is_not_a_pooling_of_logits(kind: str):
    assert logit_pooling(PoolingConfig.model_validate({"kind": kind})) is None


def _pool(kind: str, bags: list[list[float]]) -> tuple[list[float], list[np.ndarray]]:
    """Bag logits and the attention of each bag."""
    sizes = torch.tensor([len(bag) for bag in bags])
    logits = torch.tensor([value for bag in bags for value in bag])
    bag_index = torch.repeat_interleave(torch.arange(len(bags)), sizes)
    with torch.no_grad():
        bag_logit, attention = _pooling(kind)(logits, bag_index=bag_index, sizes=sizes)
    return bag_logit.tolist(), [part.numpy() for part in attention.split(sizes.tolist())]


@given(LOGITS, st.sampled_from(KINDS))
def test_attention_sums_to_1_and_a_bag_does_not_depend_on_others(bags: list[list[float]], kind: str):
    together, attention = _pool(kind, bags)
    for logit, share, bag in zip(together, attention, bags, strict=True):
        assert share.sum() == pytest.approx(1, abs=1e-5)
        assert share.min() >= 0
        alone, _ = _pool(kind, [bag[::-1]])
        # As chances: near 1, the last digit of a float32 chance moves the logit by more than 1e-3.
        assert _sigmoid(logit) == pytest.approx(_sigmoid(alone[0]), abs=1e-5)


@given(LOGITS)
def test_bag_logits_against_loops(bags: list[list[float]]):
    for i, bag in enumerate(bags):
        chances = [_sigmoid(t) for t in bag]
        assert _pool("mean", bags)[0][i] == pytest.approx(np.mean(bag), abs=1e-5)
        assert _pool("max", bags)[0][i] == pytest.approx(max(bag), abs=1e-6)
        highest = sorted(bag, reverse=True)[:TOP_K]
        assert _pool("topk", bags)[0][i] == pytest.approx(sum(highest) / len(highest), abs=1e-5)
        floor, ceiling = _sigmoid(-5), _sigmoid(5)
        noisy = (_sigmoid(10 * (np.mean(chances) - 0.5)) - floor) / (ceiling - floor)
        assert _sigmoid(_pool("noisy-and", bags)[0][i]) == pytest.approx(noisy, abs=1e-4)
        quantiles = np.quantile(chances, np.linspace(0, 1, 16))
        assert _pool("quantile", bags)[0][i] == pytest.approx(8 * quantiles.mean() - 4, abs=1e-4)


def test_attention_of_each_kind():
    bags = [[-2.0, 3.0, 0.0, 3.0]]
    assert _pool("mean", bags)[1][0].tolist() == [0.25] * 4
    assert _pool("max", bags)[1][0].tolist() == [0, 0.5, 0, 0.5]
    np.testing.assert_allclose(_pool("topk", bags)[1][0], [0, 1 / 3, 1 / 3, 1 / 3], rtol=1e-6)
    assert _pool("topk", [[2.0, 1.0]])[1][0].tolist() == [0.5, 0.5], "no more than the bag has"
    chances = np.array([_sigmoid(t) for t in bags[0]])
    np.testing.assert_allclose(_pool("noisy-and", bags)[1][0], chances / chances.sum(), rtol=1e-5)
    # Sorted: -2, 0, 3, 3. Of 16 quantiles a fifth of a gap apart, an end gets 1 + .8 + .6 + .4 + .2 = 3.
    found = _pool("quantile", bags)[1][0]
    np.testing.assert_allclose(found[[0, 2]], [3 / 16, 5 / 16], rtol=1e-5)
    np.testing.assert_allclose(sorted(found[[1, 3]]), [3 / 16, 5 / 16], rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_of_a_very_confident_model_is_a_number(kind: str):
    """In float32, the sigmoid of -200 is 0: shares of the probabilities would be 0 / 0."""
    for logits in ([-200.0, -201.0, -400.0], [200.0, 300.0, 200.0]):
        bag_logit, attention = _pool(kind, [logits])
        assert np.isfinite(bag_logit).all()
        assert attention[0].sum() == pytest.approx(1, abs=1e-5)
    assert _pool("noisy-and", [[-200.0, -200.0, -400.0]])[1][0].tolist() == [0.5, 0.5, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_instance_logit_never_lowers_the_bag(kind: str):
    pooling = _pooling(kind)
    logits = torch.tensor([-1.0, 0.5, 2.0, 0.1, -3.0], requires_grad=True)
    index, sizes = torch.zeros(5, dtype=torch.long), torch.tensor([5])
    pooling(logits, bag_index=index, sizes=sizes)[0].sum().backward()
    assert logits.grad is not None
    assert logits.grad.min() >= 0
    assert logits.grad.sum() > 0.1
