from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from hardmil.bags.bag import Bag
from hardmil.config.model import ModelConfig, PoolingKind, resolve_config
from hardmil.errors import BagError
from hardmil.mil import inference
from hardmil.mil.bag_score import BagScore
from hardmil.mil.batches import pack
from hardmil.mil.inference import embed_instances, score_bags
from hardmil.mil.network import BagClassifier, FeatureNetwork

SHAPES = pytest.mark.parametrize("shape", [(4,), (24, 24, 3)], ids=["features", "pixels"])


def _network(shape: tuple[int, ...]) -> BagClassifier:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"network": {"embedding_dim": 8, "dropout": 0.5}})
    return BagClassifier(resolve_config(config, kind="features"), instance_shape=shape)


def _bags(shape: tuple[int, ...]) -> list[Bag]:
    rng = np.random.default_rng(0)
    dtype = np.uint8 if len(shape) == 3 else np.float32
    arrays = [(20 * rng.random((n, *shape))).astype(dtype) for n in (7, 1, 12)]
    return [Bag(f"s{i}", f"c{i}", -1, a, np.zeros((len(a), 2), np.int64), 0) for i, a in enumerate(arrays)]


@SHAPES
def test_scores_are_those_of_the_network(shape: tuple[int, ...]):
    network, bags = _network(shape).train(), _bags(shape)
    scores = score_bags(network, bags)
    assert not network.training
    for bag, score in zip(bags, scores, strict=True):
        with torch.no_grad():
            output = network(pack([bag]))
        assert score.bag_score == pytest.approx(1 / (1 + np.exp(-output.bag_logit.item())), abs=1e-6)
        np.testing.assert_allclose(score.attention, output.attention, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(score.instance_logit, output.instance_logit, atol=1e-5)
        assert score.attention.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("score", "used"), [("top", 3), ("mean", 12)])
def test_the_score_can_be_a_mean_of_instance_logits(score: str, used: int):
    network, bags = _network((4,)), _bags((4,))
    before = score_bags(network, bags)
    pooling = network.config.pooling.model_copy(update={"score": score, "top_k": 3})
    network.config = network.config.model_copy(update={"pooling": pooling})
    for old, new in zip(before, score_bags(network, bags), strict=True):
        np.testing.assert_array_equal(new.attention, old.attention)
        np.testing.assert_array_equal(new.instance_logit, old.instance_logit)
        mean = np.sort(old.instance_logit)[-used:].mean()
        logit = np.log(new.bag_score) - np.log1p(-new.bag_score)
        assert logit == pytest.approx(mean, abs=1e-5)
        assert new.contribution is not None
        assert new.contribution.sum() + new.bias == pytest.approx(logit, abs=1e-5)
        assert np.count_nonzero(new.contribution) <= used


NOT_A_SUM = ("noisy-and", "quantile", "dsmil", "transmil", "clam-mb", "dtfd")
"""Poolings whose bag logit is not a sum over instances; docs/prediction.md lists them."""


@pytest.mark.parametrize("kind", get_args(PoolingKind))
def test_contributions_and_bias_add_up_to_the_logit(kind: str):
    torch.manual_seed(0)
    config = {"network": {"embedding_dim": 8, "dropout": 0.5}, "pooling": {"kind": kind, "lam": 0.3}}
    model = resolve_config(ModelConfig.model_validate(config), kind="features")
    network = BagClassifier(model, instance_shape=(4,))
    for score in score_bags(network, _bags((4,))):
        if kind in NOT_A_SUM:
            assert score.contribution is None
            continue
        assert score.contribution is not None
        logit = np.log(score.bag_score) - np.log1p(-score.bag_score)
        assert score.contribution.sum() + score.bias == pytest.approx(logit, abs=1e-5)
        speaks_for = np.sign(score.instance_logit - score.bias)
        assert (np.sign(score.contribution) * speaks_for >= 0).all()


@SHAPES
def test_chunks_give_the_same_as_the_whole(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch):
    network, bags = _network(shape), _bags(shape)
    whole = score_bags(network, bags)
    embedded = embed_instances(network, bags[2])
    monkeypatch.setattr(inference, "CHUNK", 5)
    for one, other in zip(score_bags(network, bags), whole, strict=True):
        assert one.bag_score == pytest.approx(other.bag_score, abs=1e-6)
        np.testing.assert_allclose(one.attention, other.attention, atol=1e-6)
        np.testing.assert_allclose(one.instance_logit, other.instance_logit, atol=1e-5)
    np.testing.assert_allclose(embed_instances(network, bags[2]), embedded, atol=1e-6)


def test_no_more_than_a_chunk_is_embedded_at_once(monkeypatch: pytest.MonkeyPatch):
    network, sizes = _network((4,)), list[int]()
    network.embed.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    monkeypatch.setattr(inference, "CHUNK", 5)
    score_bags(network, _bags((4,)))
    assert sizes == [5, 2, 1, 5, 5, 2]


@SHAPES
def test_embedding_is_the_model_without_its_last_layer(shape: tuple[int, ...]):
    network, bag = _network(shape), _bags(shape)[0]
    embedded = embed_instances(network, bag)
    weight, bias = network.classify.weight.detach().numpy()[0], network.classify.bias.item()
    expected = score_bags(network, [bag])[0].instance_logit
    np.testing.assert_allclose(embedded @ weight + bias, expected, atol=1e-5)


def test_arrays_that_may_not_be_written_to_are_read():
    bag = _bags((4,))[0]
    bag.instances.flags.writeable = False
    assert 0 < score_bags(_network((4,)), [bag])[0].bag_score < 1


@pytest.mark.parametrize("what", ["score", "attention", "instance logits"])
def test_what_is_not_a_number_is_refused_with_its_slide(what: str):
    value, attention, logits = 0.5, np.array([0.5, 0.5]), np.array([1.0, 2.0])
    BagScore(value, attention, logits).check("s1")
    if what == "score":
        value = np.inf
    else:
        (attention if what == "attention" else logits)[0] = np.nan
    n = 1 if what == "score" else 2
    with pytest.raises(BagError, match=f"slide s1: 1 of {n} values of the {what} are NaN .*lower training"):
        BagScore(value, attention, logits).check("s1")


@SHAPES
def test_a_network_that_diverged_scores_nothing(shape: tuple[int, ...]):
    network = _network(shape)
    with torch.no_grad():
        network.classify.weight[0, 0] = torch.nan
    with pytest.raises(BagError, match=r"slide s0: 1 of 1 values of the score are NaN .*lower training\.lr"):
        score_bags(network, _bags(shape))


def test_features_that_are_far_too_large_are_named_by_their_slide():
    network, bags = _network((4,)), _bags((4,))
    assert isinstance(network.embed, FeatureNetwork)
    network.embed.standardise_by(mean=np.zeros(4, np.float32), scale=np.full(4, 0.01, np.float32))
    bags[1].instances[:] = 3e38
    with pytest.raises(BagError, match=r"slide s1: .* NaN or infinite; .*check how the features of this one"):
        score_bags(network, bags)


@SHAPES
def test_scores_use_the_places_of_patches_where_attention_is_smoothed(shape: tuple[int, ...]):
    network, bags = _network(shape), _bags(shape)
    pooling = network.config.pooling.model_copy(update={"smooth_steps": 3})
    network.config = network.config.model_copy(update={"pooling": pooling})
    placed = [
        replace(bag, coords=bag.coords + 8 * np.arange(len(bag))[:, None], size_level0_px=8) for bag in bags
    ]
    for bag, score, without in zip(
        placed, score_bags(network, placed), score_bags(network, bags), strict=True
    ):
        with torch.no_grad():
            output = network(pack([bag]))
        np.testing.assert_allclose(score.attention, output.attention, rtol=1e-4, atol=1e-7)
        assert score.contribution is not None
        logit = np.log(score.bag_score) - np.log1p(-score.bag_score)
        assert score.contribution.sum() + score.bias == pytest.approx(logit, abs=1e-5)
        assert len(bag) == 1 or np.abs(score.attention - without.attention).max() > 1e-5
