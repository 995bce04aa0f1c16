import torch
from tests.support.packed import bags_of, packed
from torch import nn
from torch.nn import functional

from hardmil.mil.dsmil import DualStreamPooling


def test_against_a_loop_over_bags():
    torch.manual_seed(0)
    pooling, classify = DualStreamPooling(embedding_dim=6, query_dim=4), nn.Linear(6, 1)
    batch = packed(5, 1, 7, 3)
    found = pooling(batch, classify=classify)
    for i, bag in enumerate(bags_of(batch)):
        logits = [classify(g).item() for g in bag]
        strongest = max(range(len(bag)), key=lambda j: logits[j])
        products = torch.stack([pooling.query(g) @ pooling.query(bag[strongest]) / 2 for g in bag])
        attention = products.exp() / products.exp().sum()
        vector = sum(a * pooling.value(g) for a, g in zip(attention, bag, strict=True))
        streams = [torch.tensor(logits[strongest]), pooling.classify_bag(vector)[0]]
        own = found.attention.split(batch.sizes.tolist())[i]
        torch.testing.assert_close(own, attention)
        torch.testing.assert_close(found.bag_logit[i], (streams[0] + streams[1]) / 2)
        label = batch.labels[i]
        losses = [functional.binary_cross_entropy_with_logits(one, label) for one in streams]
        assert found.bag_loss is not None
        torch.testing.assert_close(found.bag_loss[i], (losses[0] + losses[1]) / 2)
    torch.testing.assert_close(found.instance_logit, classify(batch.instances).squeeze(1))


def test_of_equal_instances_the_first_is_the_strongest():
    torch.manual_seed(0)
    pooling, classify = DualStreamPooling(embedding_dim=6, query_dim=4), nn.Linear(6, 1)
    batch = packed(4, 3)
    batch.instances[:] = batch.instances[0]
    found = pooling(batch, classify=classify)
    torch.testing.assert_close(found.attention, torch.tensor([1 / 4] * 4 + [1 / 3] * 3))
    assert found.bag_logit.shape == (2,)


def test_there_is_no_loss_in_prediction():
    pooling = DualStreamPooling(embedding_dim=6, query_dim=4).eval()
    assert pooling(packed(4), classify=nn.Linear(6, 1)).bag_loss is None
