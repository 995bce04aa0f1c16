from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch.nn import functional

from hardmil.bags.bag import Bag
from hardmil.config.model import ModelConfig, PoolingKind, ResolvedModelConfig, resolve_config
from hardmil.errors import BagError
from hardmil.mil.batches import PackedBatch, pack
from hardmil.mil.network import BagClassifier, FeatureNetwork, PatchNetwork

DIM = 8


def _config(**pooling: Any) -> ResolvedModelConfig:
    content = {"network": {"embedding_dim": DIM, "dropout": 0.3}, "pooling": {"attention_dim": 6} | pooling}
    return resolve_config(ModelConfig.model_validate(content), kind="features")


def _network(shape: tuple[int, ...], *, seed: int = 0, **pooling: Any) -> BagClassifier:
    torch.manual_seed(seed)
    network = BagClassifier(_config(**pooling), instance_shape=shape)
    with torch.no_grad():  # attention far from flat
        if network.attend is not None:
            is_bounded = network.attend.hidden is not None
            network.attend.score.weight.mul_(100 if is_bounded and len(shape) == 3 else 4)
    return network.eval()


def _bags(shape: tuple[int, ...], sizes: tuple[int, ...] = (5, 1, 9, 3)) -> list[Bag]:
    rng = np.random.default_rng(0)
    bags: list[Bag] = []
    for i, n in enumerate(sizes):
        if len(shape) == 3:
            instances = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        else:
            instances = (3 * rng.normal(size=(n, *shape))).astype(np.float32)
        bags.append(Bag(f"s{i}", f"c{i}", i % 2, instances, np.zeros((n, 2), np.int64), 0))
    return bags


def _plainly(network: PatchNetwork, patches: np.ndarray) -> torch.Tensor:
    """The paper's order: convolution, ReLU, then pooling; fc over (row, column, channel)."""
    x = torch.from_numpy((patches.astype(np.float32) - 127.5) / 127.5).permute(0, 3, 1, 2)
    x = functional.max_pool2d(
        functional.relu(functional.conv2d(x, network.conv1.weight, network.conv1.bias)), 2
    )
    x = functional.max_pool2d(
        functional.relu(functional.conv2d(x, network.conv2.weight, network.conv2.bias)), 2
    )
    embeddings: list[torch.Tensor] = []
    for one in x:
        flat = torch.stack(
            [one[:, row, column] for row in range(one.shape[1]) for column in range(one.shape[2])]
        )
        hidden = functional.relu(network.fc1.weight @ flat.reshape(-1) + network.fc1.bias)
        embeddings.append(functional.relu(network.fc2.weight @ hidden + network.fc2.bias))
    return torch.stack(embeddings)


@pytest.mark.parametrize("size", [24, 27, 32, 48])
def test_pooling_before_relu_is_relu_before_pooling(size: int):
    torch.manual_seed(0)
    network = PatchNetwork(size_px=size, embedding_dim=DIM, dropout=0.5).eval()
    patches = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    with torch.no_grad():
        found, expected = network(torch.from_numpy(patches)), _plainly(network, patches)
    assert (found > 0).any()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_layers_are_the_papers():
    network = PatchNetwork(size_px=27, embedding_dim=512, dropout=0.5)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items() if "weight" in name}
    assert shapes == {
        "conv1.weight": (36, 3, 4, 4),
        "conv2.weight": (48, 36, 3, 3),
        "fc1.weight": (512, 48 * 5 * 5),
        "fc2.weight": (512, 512),
    }


@pytest.mark.parametrize("size", range(24, 49))
def test_every_supported_size(size: int):
    network = PatchNetwork(size_px=size, embedding_dim=2, dropout=0.0)
    assert network(torch.zeros((1, size, size, 3), dtype=torch.uint8)).shape == (1, 2)


@pytest.mark.parametrize("size", [23, 49, 224])
def test_other_sizes_are_refused_with_a_way_out(size: int):
    with pytest.raises(
        BagError, match=rf"patches of {size} px: .* 24 to 48 px; .*patches\.size_px.* encoder"
    ):
        BagClassifier(_config(), instance_shape=(size, size, 3))


def test_patches_that_are_not_square_are_refused():
    with pytest.raises(BagError, match=r"patches of 30 x 27 px: .*square"):
        BagClassifier(_config(), instance_shape=(27, 30, 3))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("adaptive-attention", ["attend.hidden.weight", "attend.score.weight"]),
        ("attention", ["attend.hidden.weight", "attend.score.weight"]),
        ("gated-attention", ["attend.hidden.weight", "attend.gate.weight", "attend.score.weight"]),
        ("linear-attention", ["attend.score.weight"]),
        ("conjunctive", ["attend.hidden.weight", "attend.score.weight"]),
        ("mean", []),
        ("max", []),
        ("topk", []),
        ("noisy-and", ["pool_logits.share"]),
        ("quantile", ["pool_logits.layer.weight", "pool_logits.layer.bias"]),
    ],
)
def test_parameter_names_are_those_in_saved_bundles(kind: str, names: list[str]):
    """A bundle stores its weights under these names, in this order."""
    embed = [f"embed.{name}" for name in ("mean", "scale", "fc.weight", "fc.bias")]
    found = list(BagClassifier(_config(kind=kind), instance_shape=(4,)).state_dict())
    assert found == [*embed, *names, "classify.weight", "classify.bias"]


def test_features_are_standardised_by_the_given_numbers():
    network = _network((4,))
    mean, scale = np.array([1, 2, 3, 4], np.float32), np.array([2, 1, 0.5, 3], np.float32)
    network.embed.standardise_by(mean=mean, scale=scale)
    features = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float16)
    weight, bias = network.embed.fc.weight.detach().numpy(), network.embed.fc.bias.detach().numpy()
    expected = [np.maximum(weight @ ((g.astype(np.float32) - mean) / scale) + bias, 0) for g in features]
    found = network.embed(torch.from_numpy(features)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_standardised_features_are_cut_off_at_clip():
    network = FeatureNetwork(feature_dim=4, embedding_dim=DIM, dropout=0.0, clip=2.0)
    network.standardise_by(mean=np.full(4, 10, np.float32), scale=np.full(4, 0.5, np.float32))
    within, beyond = torch.tensor([[9.0, 11.0, 10.5, 9.0]]), torch.tensor([[-90.0, 1000.0, 10.5, 8.9]])
    assert torch.equal(network(beyond), network(within))
    assert not torch.equal(network(torch.full((1, 4), 10.9)), network(torch.full((1, 4), 11.0)))


def test_a_network_of_features_has_the_clip_of_its_settings():
    settings = ModelConfig.model_validate({"network": {"clip": 3}})
    network = BagClassifier(resolve_config(settings, kind="features"), instance_shape=(6,))
    assert isinstance(network.embed, FeatureNetwork)
    assert network.embed.clip == 3


@pytest.mark.parametrize("kind", ["adaptive-attention", "attention"])
def test_bag_and_instance_logits_share_one_classifier(kind: str):
    network, bags = _network((4,), kind=kind, lam=2.5), _bags((4,))
    with torch.no_grad():
        output = network(pack(bags))
        o, b = network.classify.weight[0], network.classify.bias[0]
        row = 0
        for position, bag in enumerate(bags):
            g = network.embed(torch.from_numpy(bag.instances))
            w = torch.softmax(network.attend(g), dim=0)
            np.testing.assert_allclose(output.attention[row : row + len(bag)], w, rtol=1e-4, atol=1e-6)
            z = torch.zeros(DIM)
            for j in range(len(bag)):
                below = kind == "adaptive-attention" and len(bag) * w[j] < 1 - 1e-6
                z += (2.5 if below else 1.0) * w[j] * g[j]
                assert output.instance_logit[row + j].item() == pytest.approx((o @ g[j] + b).item(), abs=1e-5)
            assert output.bag_logit[position].item() == pytest.approx((o @ z + b).item(), abs=1e-5)
            row += len(bag)


@pytest.mark.parametrize("shape", [(4,), (24, 24, 3)], ids=["features", "pixels"])
@pytest.mark.parametrize("kind", ["linear-attention", "conjunctive", "topk"])
def test_other_poolings_against_a_loop(shape: tuple[int, ...], kind: str):
    network, bags = _network(shape, kind=kind, top_k=3), _bags(shape)
    with torch.no_grad():
        output = network(pack(bags))
        o, b = network.classify.weight[0].double(), network.classify.bias[0].double()
        row = 0
        for position, bag in enumerate(bags):
            n = len(bag)
            g = network.embed(torch.from_numpy(bag.instances)).double()
            s = torch.stack([o @ g[j] + b for j in range(n)])
            if kind == "topk":
                best = s.argsort(descending=True)[:3]
                weights = torch.tensor([float(j in best) / len(best) for j in range(n)]).double()
            else:
                a = network.attend(g.float()).double()
                raised = a.exp() if kind == "linear-attention" else 1 / (1 + (-a).exp())
                weights = raised / (raised.sum() if kind == "linear-attention" else n)
            z = sum((weights[j] * g[j] for j in range(n)), torch.zeros(network.classify.in_features))
            expected = (o @ z + b).item()
            assert output.bag_logit[position].item() == pytest.approx(expected, abs=1e-5)
            np.testing.assert_allclose(output.instance_logit[row : row + n], s, atol=1e-5)
            np.testing.assert_allclose(output.weights[row : row + n], weights, atol=1e-5)
            np.testing.assert_allclose(output.attention[row : row + n], weights / weights.sum(), atol=1e-5)
            row += n


@pytest.mark.parametrize("kind", get_args(PoolingKind))
def test_the_softmax_of_the_attention_logits_is_the_attention(kind: str):
    bags = _bags((4,))
    with torch.no_grad():
        output = _network((4,), kind=kind)(pack(bags))
    sizes = [len(bag) for bag in bags]
    for logits, attention in zip(
        output.attention_logit.split(sizes), output.attention.split(sizes), strict=True
    ):
        torch.testing.assert_close(logits.softmax(0), attention, rtol=0, atol=1e-5)


def test_adaptive_weights_at_prediction_can_be_turned_off():
    batch = pack(_bags((4,)))
    with torch.no_grad():
        plain = _network((4,), kind="adaptive-attention", lam=1.0)(batch)
        off = _network((4,), kind="adaptive-attention", adaptive_at_prediction=False)
        on = _network((4,), kind="adaptive-attention")
        torch.testing.assert_close(off(batch).bag_logit, plain.bag_logit)
        assert not torch.allclose(on(batch).bag_logit, plain.bag_logit)
        off.embed.dropout.p = on.embed.dropout.p = 0.0  # in training both use Eq. 2
        torch.testing.assert_close(off.train()(batch).bag_logit, on.train()(batch).bag_logit)


@pytest.mark.parametrize("shape", [(4,), (24, 24, 3)], ids=["features", "pixels"])
@pytest.mark.parametrize("kind", get_args(PoolingKind))
def test_several_bags_give_what_each_gives_alone(shape: tuple[int, ...], kind: str):
    network, bags = _network(shape, kind=kind), _bags(shape)
    with torch.no_grad():
        together = network(pack(bags))
        alone = [network(pack([bag])) for bag in bags]
    for bag, one in zip(bags, alone, strict=True):
        # Where an attention is at the mean of its bag, rounding decides on which side of it.
        if kind == "adaptive-attention":
            assert len(bag) == 1 or (len(bag) * one.attention - 1).abs().min() > 1e-4
    for name in ("bag_logit", "attention_logit", "attention", "instance_logit"):
        expected = torch.cat([getattr(one, name) for one in alone])
        torch.testing.assert_close(getattr(together, name), expected, rtol=0, atol=1e-5)


def test_order_of_instances_does_not_matter():
    network, bag = _network((4,)), _bags((4,), (9,))[0]
    order = np.random.default_rng(3).permutation(9)
    turned = Bag("t", "t", 0, bag.instances[order], bag.coords, 0)
    with torch.no_grad():
        first, second = network(pack([bag])), network(pack([turned]))
    torch.testing.assert_close(first.bag_logit, second.bag_logit)
    torch.testing.assert_close(first.attention[order.tolist()], second.attention)


@pytest.mark.parametrize("shape", [(4,), (24, 24, 3)], ids=["features", "pixels"])
def test_all_but_the_embedding_is_float32_under_autocast(shape: tuple[int, ...]):
    network, batch = _network(shape), pack(_bags(shape))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = network.embed(batch.instances)
        output = network(batch)
    assert embeddings.dtype == torch.bfloat16
    with torch.no_grad():
        expected = network.pool(PackedBatch(embeddings.float(), batch.offsets, batch.labels))
    for name in ("bag_logit", "attention_logit", "attention", "instance_logit"):
        assert getattr(output, name).dtype == torch.float32
        torch.testing.assert_close(getattr(output, name), getattr(expected, name))


def test_dropout_is_on_in_training_alone():
    network, batch = _network((4,)), pack(_bags((4,)))
    with torch.no_grad():
        assert torch.equal(network(batch).bag_logit, network(batch).bag_logit)
        network.train()
        assert not torch.equal(network(batch).bag_logit, network(batch).bag_logit)


ATTENTION_KINDS = ("adaptive-attention", "attention", "gated-attention", "linear-attention", "conjunctive")


@pytest.mark.parametrize("shape", [(4,), (24, 24, 3)], ids=["features", "pixels"])
@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_instances_left_out_in_training_are_as_if_not_in_the_bag(shape: tuple[int, ...], kind: str):
    """Of 5, 12 and 20 instances, the most attended 1, 3 and 5; of these 0, 2 and 4 are left out."""
    network, bags = _network(shape, kind=kind, mask_top=9, mask_share=0.8), _bags(shape, (5, 12, 20))
    network.embed.dropout.p = 0.0
    batch = pack(bags)
    with torch.no_grad():
        whole = network(batch)
        torch.manual_seed(3)
        output = network.train()(batch)
        network.eval()
        torch.manual_seed(3)
        row = 0
        for position, (bag, n_top, n_out) in enumerate(zip(bags, (1, 3, 5), (0, 2, 4), strict=True)):
            rows = slice(row, row + len(bag))
            ranked = np.argsort(-whole.attention[rows].numpy())
            left_out = ranked[:n_top][torch.randperm(n_top)[:n_out].numpy()]
            kept = np.setdiff1d(np.arange(len(bag)), left_out)
            expected = network(pack([bag.take(kept)]))
            assert (output.attention[rows][left_out] == 0).all()
            for name in ("attention", "weights", "instance_logit"):
                found = getattr(output, name)[rows][kept]
                torch.testing.assert_close(found, getattr(expected, name), rtol=0, atol=1e-5)
            assert output.bag_logit[position].item() == pytest.approx(expected.bag_logit.item(), abs=1e-5)
            row += len(bag)


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_gradients_are_finite_where_instances_are_left_out(kind: str):
    network = _network((4,), kind=kind, mask_top=9, mask_share=0.8).train()
    output = network(pack(_bags((4,), (12, 20))))
    (output.bag_logit.sum() + output.instance_logit.sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("shape", [(4,), (24, 24, 3)], ids=["features", "pixels"])
@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_smoothed_attention_against_a_loop(shape: tuple[int, ...], kind: str):
    """Bags on a grid of 5 columns, the second without coordinates."""
    network, bags = _network(shape, kind=kind, smooth_steps=2, smooth_alpha=0.3), _bags(shape, (12, 4, 9))
    places = [np.array([(j % 5, j // 5) for j in range(len(bag))], np.int64) for bag in bags]
    bags = [replace(bag, coords=24 * at, size_level0_px=24) for bag, at in zip(bags, places, strict=True)]
    bags[1] = replace(bags[1], coords=0 * bags[1].coords, size_level0_px=0)
    with torch.no_grad():
        output, row = network(pack(bags)), 0
        for bag in bags:
            a0 = network.attend(network.embed(torch.from_numpy(bag.instances))).double().tolist()
            a, at, n = a0, bag.coords.tolist(), len(bag)
            for _ in range(2):
                near = [
                    [a[k] for k in range(n) if k != j and max(abs(np.subtract(at[j], at[k]))) <= 24]
                    for j in range(n)
                ]
                if bag.size_level0_px:
                    a = [0.7 * a0[j] + 0.3 * sum(near[j]) / len(near[j]) for j in range(n)]
            logits = torch.tensor(a)
            if kind == "conjunctive":
                logits = torch.log(torch.sigmoid(logits))
            found = output.attention[row : row + n]
            np.testing.assert_allclose(found, logits.softmax(0), atol=1e-5)
            row += n


def test_smoothing_needs_the_bags_of_a_batch_and_only_where_it_is_on():
    bags = _bags((4,))
    plain, smooth = _network((4,)), _network((4,), smooth_steps=2)
    batch = replace(pack(bags), bags=())
    assert plain(batch).attention.isfinite().all()
    with pytest.raises(TypeError, match="this batch has no bags"):
        smooth(batch)
    # These bags have no coordinates.
    torch.testing.assert_close(smooth(pack(bags)).attention, plain(batch).attention)
