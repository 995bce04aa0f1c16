import torch
from tests.support.packed import bags_of, packed
from torch import nn
from torch.nn import functional

from hardmil.config.model import PoolingConfig
from hardmil.mil.dtfd import DoubleTierPooling


def _pooling() -> tuple[DoubleTierPooling, nn.Linear]:
    torch.manual_seed(0)
    config = PoolingConfig.model_validate({"kind": "dtfd", "attention_dim": 5})
    return DoubleTierPooling(config, embedding_dim=6), nn.Linear(6, 1)


def _attention(layer: nn.Module, vectors: torch.Tensor) -> torch.Tensor:
    return layer(vectors).softmax(0)


def _entropy(logit: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(logit, label)


def test_against_a_loop_over_bags_and_pseudo_bags():
    pooling, classify = _pooling()
    batch = packed(13, 3, 1)
    torch.manual_seed(7)
    found = pooling(batch, classify=classify)
    assert found.bag_loss is not None
    torch.manual_seed(7)
    for i, bag in enumerate(bags_of(batch)):
        n_groups = min(5, len(bag))
        group = torch.randperm(len(bag)) % n_groups
        members = [torch.nonzero(group == number).squeeze(1) for number in range(n_groups)]
        first = [_attention(pooling.attend_instances, bag[one]) for one in members]
        vectors = torch.stack([a @ bag[one] for a, one in zip(first, members, strict=True)])
        second = _attention(pooling.attend_pseudo_bags, vectors)
        logit, label = pooling.classify_bag(second @ vectors)[0], batch.labels[i]
        tier_1 = sum(_entropy(classify(one)[0], label) for one in vectors) / n_groups
        torch.testing.assert_close(found.bag_logit[i], logit)
        torch.testing.assert_close(found.bag_loss[i], _entropy(logit, label) + tier_1)
        attention = found.attention.split(batch.sizes.tolist())[i]
        for number, one in enumerate(members):
            torch.testing.assert_close(attention[one], first[number] * second[number])
    torch.testing.assert_close(found.instance_logit, classify(batch.instances).squeeze(1))


def test_pseudo_bags_are_of_nearly_equal_size():
    pooling, _ = _pooling()
    group, bag_of_group = pooling._draw([13, 2], device=torch.device("cpu"))
    assert sorted(torch.bincount(group[:13]).tolist()) == [2, 2, 3, 3, 3]
    assert sorted(group[13:].tolist()) == [5, 6]
    assert bag_of_group.tolist() == [0] * 5 + [1] * 2


def test_training_draws_again_and_prediction_does_not():
    pooling, classify = _pooling()
    batch = packed(40)
    trained = [pooling(batch, classify=classify).bag_logit.item() for _ in range(3)]
    assert len(set(trained)) > 1
    pooling.eval()
    state = torch.get_rng_state()
    predicted = [pooling(batch, classify=classify).bag_logit.item() for _ in range(3)]
    assert len(set(predicted)) == 1
    assert torch.equal(state, torch.get_rng_state())
