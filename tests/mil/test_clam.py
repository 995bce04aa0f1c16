import math

import pytest
import torch
from tests.support.packed import bags_of, packed
from torch import nn
from torch.nn import functional

from hardmil.config.model import PoolingConfig
from hardmil.mil.clam import ClamPooling, smooth_svm


def _pooling(kind: str) -> tuple[ClamPooling, nn.Linear]:
    torch.manual_seed(0)
    config = PoolingConfig.model_validate({"kind": kind, "attention_dim": 5})
    return ClamPooling(config, embedding_dim=6), nn.Linear(6, 1)


def _attention(layer: nn.Module, bag: torch.Tensor) -> torch.Tensor:
    hidden = torch.tanh(bag @ layer.hidden.weight.T) * torch.sigmoid(bag @ layer.gate.weight.T)  # type: ignore[union-attr]
    return (hidden @ layer.score.weight[0]).softmax(0)  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["clam-sb", "clam-mb"])
def test_against_a_loop_over_bags(kind: str):
    pooling, classify = _pooling(kind)
    batch = packed(20, 3, 30, 1)
    found = pooling(batch, classify=classify)
    assert found.bag_loss is not None
    for i, bag in enumerate(bags_of(batch)):
        branches = [_attention(branch, bag) for branch in pooling.branches]
        logit = classify(branches[-1] @ bag)[0]
        if kind == "clam-mb":
            assert pooling.classify_negative is not None
            logit = logit - pooling.classify_negative(branches[0] @ bag)[0]
        torch.testing.assert_close(found.bag_logit[i], logit)
        torch.testing.assert_close(found.attention.split(batch.sizes.tolist())[i], branches[-1])
        label = int(batch.labels[i])
        order = branches[label if kind == "clam-mb" else 0].argsort(descending=True).tolist()
        n = min(8, len(bag))
        terms = []
        for j, target in [*((j, 1) for j in order[:n]), *((j, 0) for j in order[::-1][:n])]:
            scores = pooling.clusters[label](bag[j])
            terms.append(torch.log(1 + torch.exp(1 + scores[1 - target] - scores[target])))
        entropy = functional.binary_cross_entropy_with_logits(logit, batch.labels[i])
        torch.testing.assert_close(found.bag_loss[i], 0.7 * entropy + 0.3 * sum(terms) / len(terms))


def test_with_one_branch_contributions_sum_to_the_bag_logit():
    pooling, classify = _pooling("clam-sb")
    batch = packed(5, 4)
    found = pooling.eval()(batch, classify=classify)
    assert found.weights is not None
    assert found.bag_loss is None
    terms = found.weights * (found.instance_logit - classify.bias)
    sums = [classify.bias[0] + one.sum() for one in terms.split([5, 4])]
    torch.testing.assert_close(found.bag_logit, torch.stack(sums))
    assert _pooling("clam-mb")[0](batch, classify=classify).weights is None


def test_the_clustering_does_not_train_the_attention():
    """Which instances are attended is taken as it is, as in the authors' code."""
    pooling, classify = _pooling("clam-sb")
    pooling(packed(12), classify=classify).bag_loss.sum().backward()
    with_clusters = pooling.branches[0].score.weight.grad.clone()
    pooling.zero_grad()
    logit = pooling(packed(12), classify=classify).bag_logit
    (0.7 * functional.binary_cross_entropy_with_logits(logit, torch.zeros(1))).backward()
    torch.testing.assert_close(with_clusters, pooling.branches[0].score.weight.grad)


def test_smooth_svm():
    logits, targets = torch.tensor([[2.0, 0.5], [0.0, 3.0]]), torch.tensor([0, 0])
    expected = (math.log(1 + math.exp(1 - 1.5)) + math.log(1 + math.exp(1 + 3))) / 2
    assert smooth_svm(logits, targets).item() == pytest.approx(expected)
