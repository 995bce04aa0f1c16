import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardmil.config.model import PoolingConfig
from hardmil.mil.pooling import (
    AttentionLayer,
    adaptive_weights,
    pseudo_negatives,
    segment_max,
    segment_softmax,
    segment_sum,
)

# Bags of one to six instances, each with its logits.
LOGITS = st.lists(st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=6), min_size=1, max_size=5)


def _packed(bags: list[list[float]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All values in a row, the bag of each, the sizes."""
    sizes = torch.tensor([len(bag) for bag in bags])
    values = torch.tensor([value for bag in bags for value in bag])
    return values, torch.repeat_interleave(torch.arange(len(bags)), sizes), sizes


def _softmax(logits: list[float]) -> np.ndarray:
    exponentials = np.exp(np.array(logits, np.float64) - max(logits))
    return exponentials / exponentials.sum()


def _attention(bags: list[list[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    logits, bag_index, sizes = _packed(bags)
    return segment_softmax(logits, bag_index=bag_index, n_bags=len(bags)), sizes


@given(LOGITS)
def test_attention_is_the_softmax_of_each_bag(bags: list[list[float]]):
    attention, sizes = _attention(bags)
    for part, logits in zip(attention.split(sizes.tolist()), bags, strict=True):
        np.testing.assert_allclose(part.numpy(), _softmax(logits), rtol=2e-5, atol=1e-9)
        assert part.sum().item() == pytest.approx(1, abs=1e-6)


@given(st.permutations([-3.0, -1.0, 0.5, 0.6, 2.0]))
def test_attention_does_not_mind_the_order(logits: list[float]):
    found, _ = _attention([[7.0], logits])
    ordered, _ = _attention([sorted(logits), [7.0]])
    order = np.argsort(logits) + 1
    np.testing.assert_allclose(found[order].numpy(), ordered[:5].numpy(), rtol=1e-6)


def test_attention_of_large_logits_is_safe():
    attention, _ = _attention([[1e4, -1e4, 1e4 - 1], [-1e4, -1e4], [1e4]])
    expected = [*_softmax([1, -2e4, 0]), 0.5, 0.5, 1]
    np.testing.assert_allclose(attention.numpy(), expected, atol=1e-7)


def test_gradient_of_attention_is_that_of_torch():
    logits = torch.tensor([0.3, -1.0, 2.0, 0.1, 0.2], requires_grad=True)
    pull = torch.tensor([1.0, 2.0, -1.0, 3.0, 0.5])
    bag_index = torch.tensor([0, 0, 0, 1, 1])
    (segment_softmax(logits, bag_index=bag_index, n_bags=2) * pull).sum().backward()
    plain = logits.detach().clone().requires_grad_()
    (torch.cat([plain[:3].softmax(0), plain[3:].softmax(0)]) * pull).sum().backward()
    np.testing.assert_allclose(logits.grad, plain.grad, rtol=1e-5, atol=1e-7)


@given(LOGITS)
def test_pseudo_negatives_draw_less_than_the_mean_of_their_bag(bags: list[list[float]]):
    attention, sizes = _attention(bags)
    found = pseudo_negatives(attention, sizes=sizes)
    for part, is_negative in zip(attention.split(sizes.tolist()), found.split(sizes.tolist()), strict=True):
        n = len(part)
        for w, negative in zip(part.tolist(), is_negative.tolist(), strict=True):
            if abs(n * w - 1) > 1e-5:  # at the mean itself, rounding decides
                assert negative == (w < 1 / n)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 48, 1000, 30_011])
def test_a_flat_bag_has_no_pseudo_negatives(n: int):
    attention, sizes = _attention([[0.1] * n, [3.0, -3.0]])
    assert pseudo_negatives(attention, sizes=sizes).tolist() == [False] * (n + 1) + [True]


@given(LOGITS, st.floats(0, 4))
def test_adaptive_weights_multiply_those_below_the_mean(bags: list[list[float]], lam: float):
    attention, sizes = _attention(bags)
    weights = adaptive_weights(attention, sizes=sizes, lam=lam)
    is_negative = pseudo_negatives(attention, sizes=sizes).tolist()
    expected = [lam * w if n else w for w, n in zip(attention.tolist(), is_negative, strict=True)]
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-6, atol=1e-30)
    row = 0
    for part in weights.split(sizes.tolist()):
        of_negatives = sum(attention[i].item() for i in range(row, row + len(part)) if is_negative[i])
        assert part.sum().item() == pytest.approx(1 + (lam - 1) * of_negatives, abs=1e-5)
        row += len(part)


def test_instances_that_are_left_out_do_not_lower_the_mean():
    """Of four instances two are left out: the mean of the others is 1/2, and 0.4 is below it."""
    attention, sizes = torch.tensor([0.6, 0.4, 0.0, 0.0]), torch.tensor([4])
    assert adaptive_weights(attention, sizes=sizes, lam=2.0).tolist() == pytest.approx([0.6, 0.4, 0, 0])
    found = adaptive_weights(attention, sizes=sizes, lam=2.0, n_used=torch.tensor([2]))
    assert found.tolist() == pytest.approx([0.6, 0.8, 0, 0])


def test_lambda_of_one_is_plain_attention():
    attention, sizes = _attention([[0.0, 1.0, 3.0], [2.0, -2.0]])
    assert torch.equal(adaptive_weights(attention, sizes=sizes, lam=1.0), attention)


def test_membership_carries_no_gradient():
    attention = torch.tensor([0.1, 0.3, 0.6], requires_grad=True)
    adaptive_weights(attention, sizes=torch.tensor([3]), lam=2.0).sum().backward()
    assert attention.grad is not None
    assert attention.grad.tolist() == [2, 2, 1]


def test_segment_sum_against_a_loop():
    rng = np.random.default_rng(0)
    values, index = rng.normal(size=(9, 3)).astype(np.float32), np.array([0, 0, 1, 1, 1, 1, 3, 3, 3])
    expected = np.zeros((4, 3))
    for value, bag in zip(values, index, strict=True):
        expected[bag] += value
    found = segment_sum(torch.from_numpy(values), bag_index=torch.from_numpy(index), n_bags=4)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


@given(LOGITS)
def test_segment_max_is_the_maximum_of_each_bag(bags: list[list[float]]):
    values, bag_index, _ = _packed(bags)
    found = segment_max(values, bag_index=bag_index, n_bags=len(bags))
    assert found.tolist() == [max(bag) for bag in bags]


def _softsign(t: float) -> float:
    return t / (1 + abs(t))


def _sigmoid(t: float) -> float:
    return 1 / (1 + np.exp(-t))


@pytest.mark.parametrize("kind", ["adaptive-attention", "attention", "gated-attention", "conjunctive"])
def test_attention_logits_against_a_loop(kind: str):
    torch.manual_seed(0)
    layer = AttentionLayer(PoolingConfig.model_validate({"kind": kind, "attention_dim": 4}), embedding_dim=3)
    embeddings = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32) * 2
    hidden, score = layer.hidden.weight.detach().numpy(), layer.score.weight.detach().numpy()[0]
    gate = layer.gate.weight.detach().numpy() if layer.gate is not None else None
    expected: list[float] = []
    for g in embeddings:
        logit = 0.0
        for row in range(4):
            t = sum(hidden[row, k] * g[k] for k in range(3))
            activated = _softsign(t) if kind == "adaptive-attention" else np.tanh(t)
            if gate is not None:
                activated *= _sigmoid(sum(gate[row, k] * g[k] for k in range(3)))
            logit += score[row] * activated
        expected.append(logit)
    found = layer(torch.from_numpy(embeddings))
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-6)
    assert (gate is not None) == (kind == "gated-attention")
    assert not any(name.endswith("bias") for name in layer.state_dict())


def test_linear_attention_logits_against_a_loop():
    torch.manual_seed(0)
    config = PoolingConfig.model_validate({"kind": "linear-attention", "attention_dim": 4})
    layer = AttentionLayer(config, embedding_dim=3)
    embeddings = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32) * 2
    score = layer.score.weight.detach().numpy()[0]
    expected = [sum(score[k] * g[k] for k in range(3)) for g in embeddings]
    np.testing.assert_allclose(layer(torch.from_numpy(embeddings)).detach(), expected, rtol=1e-5, atol=1e-6)
    assert list(layer.state_dict()) == ["score.weight"], "no hidden layer, whatever the width"


def test_rounding_makes_no_instance_pseudo_negative():
    """In float32, n * (1 / n) is below 1 for some n."""
    below = 0
    for n in range(1, 300):
        attention, sizes = torch.full((n,), 1 / n), torch.tensor([n])
        below += int((n * attention < 1).any())
        assert not pseudo_negatives(attention, sizes=sizes).any()
    assert below > 0
