import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from hardmil.config.model import ModelConfig, resolve_config
from hardmil.errors import BundleError, StoreError
from hardmil.mil import weights
from hardmil.mil.network import BagClassifier
from hardmil.mil.weights import load_network, save_network, weights_digest


def _network() -> BagClassifier:
    torch.manual_seed(1)
    content = {"network": {"embedding_dim": 8}, "pooling": {"kind": "gated-attention", "lam": 3.0}}
    config = resolve_config(ModelConfig.model_validate(content), kind="features")
    return BagClassifier(config, instance_shape=(4,)).eval()


def test_saved_then_loaded_is_the_same(tmp_path: Path):
    network = _network()
    save_network(tmp_path / "model.safetensors", network)
    loaded = load_network(tmp_path / "model.safetensors")
    assert (loaded.config, loaded.instance_shape) == (network.config, (4,))
    assert not loaded.training
    for name, value in network.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("damage", ["missing", "empty", "garbage", "header", "half", "folder"])
def test_weights_that_are_damaged(damage: str, tmp_path: Path):
    path = tmp_path / "model.safetensors"
    save_network(path, _network())
    whole = path.read_bytes()
    path.unlink()
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "garbage":
            path.write_bytes(bytes(range(256)) * 8)
        case "header":
            path.write_bytes(whole[:40])
        case "half":
            path.write_bytes(whole[: len(whole) // 2])
        case "folder":
            path.mkdir()
        case _:
            pass
    with pytest.raises(BundleError, match=r"model\.safetensors: not the weights .*train it again"):
        load_network(path)


def test_weights_that_were_changed(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    save_network(path, _network())
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"do not match their digest\); train it again"):
        load_network(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers(tmp_path: Path, value: float):
    network = _network()
    with torch.no_grad():
        network.classify.bias.fill_(value)
    save_network(tmp_path / "model.safetensors", network)
    with pytest.raises(BundleError, match=r"classify\.bias has NaN or infinite values"):
        load_network(tmp_path / "model.safetensors")


@pytest.mark.parametrize("shape", ["[1000000000000]", "[4, 1000000, 3]", "[-4]"])
def test_a_shape_that_the_weights_do_not_have_takes_no_memory(tmp_path: Path, shape: str):
    network = _network()
    path = tmp_path / "model.safetensors"
    save_network(path, network)
    metadata = {"config": network.config.model_dump_json(), "instance_shape": shape}
    save_file(load_file(path), path, metadata=metadata)
    with pytest.raises(BundleError, match="not the weights of a hardmil network"):
        load_network(path)


def test_weights_without_a_digest_are_of_an_early_version(tmp_path: Path):
    network = _network()
    path = tmp_path / "model.safetensors"
    save_network(path, network)
    save_file(
        load_file(path), path, metadata={"config": network.config.model_dump_json(), "instance_shape": "[4]"}
    )
    assert weights_digest(load_network(path)) == weights_digest(network)


def test_the_digest_is_that_in_files_of_today():
    """Another way to make it would refuse every bundle there is."""
    network = _network()
    with torch.no_grad():
        for value in network.state_dict().values():
            value.copy_(torch.arange(value.numel()).reshape(value.shape))
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + np.arange(value.numel(), dtype=np.float32).tobytes())
    assert weights_digest(network) == digest.hexdigest()


def test_the_digest_changes_with_a_weight():
    network = _network()
    before = weights_digest(network)
    assert weights_digest(network) == before
    with torch.no_grad():
        network.classify.bias.add_(1e-6)
    assert weights_digest(network) != before


def test_weights_of_another_network(tmp_path: Path):
    network = _network()
    path = tmp_path / "model.safetensors"
    save_network(path, network)
    weights = load_file(path)
    metadata = {"config": network.config.model_dump_json(), "instance_shape": "[4]"}
    for broken, message in [
        ({}, r"not the weights of a hardmil network \('config'\)"),
        ({"config": metadata["config"]}, r"network \('instance_shape'\)"),
        (metadata | {"config": '{"network": {"layers": 3}}'}, "network .*validation error"),
        (metadata | {"config": "{}"}, "network .*validation error"),
        (metadata | {"instance_shape": "[5]"}, "network .*Error.* in loading state_dict"),
        (metadata | {"instance_shape": "4"}, "network .*not iterable"),
        (metadata | {"instance_shape": "[]"}, "network .*out of range"),
        (metadata | {"instance_shape": "[12, 12, 3]"}, "network .*patches of 12 px"),
    ]:
        save_file(weights, path, metadata=broken)
        with pytest.raises(BundleError, match=message):
            load_network(path)
    del weights["classify.bias"]
    save_file(weights, path, metadata=metadata)
    with pytest.raises(BundleError, match="not the weights of a hardmil network"):
        load_network(path)


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(StoreError, match=r"a\.safetensors: the disk is full"):
        save_network(tmp_path / "a.safetensors", _network())
    assert list(tmp_path.iterdir()) == []
