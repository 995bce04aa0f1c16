"""A fake of timm: the real one needs torchvision, which cannot be imported with this CPU build of torch.

The errors and names of the fake are those of timm 1.0 and huggingface_hub; docs/not-run-here.md says what
was seen of the real ones.
"""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from hardmil.encoders.open_encoder import open_encoder
from hardmil.encoders.torch_network import TorchEncoder
from hardmil.errors import ConfigError

PATCHES = np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3)).astype(np.uint8)[:, :, :32]


class GatedRepoError(OSError):
    """Has the name of an error of the hub."""


class LocalEntryNotFoundError(FileNotFoundError):
    """Has the name of an error of the hub."""


class MeansNet(nn.Module):
    """The weighted mean of each channel; if `global_pool` is empty, tokens: class, four others, patches."""

    def __init__(self, weight: float, *, tokens: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.tokens = tokens

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means = x.mean(dim=(2, 3)) * self.weight
        if not self.tokens:
            return means
        return torch.stack([means, *[means + 100] * 4, means + 1, means + 3], dim=1)


class Timm(ModuleType):
    """A fake of timm that records how it is called."""

    def __init__(self) -> None:
        super().__init__("timm")
        self.asked: list[tuple[str, dict]] = []
        self.error: Exception | None = None
        self.layers = SimpleNamespace(SwiGLUPacked="SwiGLUPacked")
        self.data = ModuleType("timm.data")
        self.data.resolve_data_config = lambda args, *, model: {  # type: ignore[attr-defined]
            **{"input_size": (3, 16, 16), "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
        }

    def create_model(self, name: str, *, pretrained: bool, num_classes: int, **options: object) -> nn.Module:
        assert (pretrained, num_classes) == (True, 0)
        self.asked.append((name, options))
        if self.error is not None:
            raise self.error
        return MeansNet(2.0 if "other" in name else 1.0, tokens=options.get("global_pool") == "")

    def get_pretrained_cfg(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(hf_hub_id=f"timm/{name}.a1_in1k")


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> Timm:
    module, hub = Timm(), ModuleType("huggingface_hub")
    hub.try_to_load_from_cache = lambda repository, name: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", module)
    monkeypatch.setitem(sys.modules, "timm.data", module.data)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return module


def means(mean: float | np.ndarray, std: float | np.ndarray) -> np.ndarray:
    return (PATCHES.reshape(5, -1, 3).mean(axis=1) / 255 - mean) / std


def test_size_and_normalisation_are_those_of_the_timm_config(timm: Timm):
    told: list[str] = []
    encoder = open_encoder("timm:resnet50", tell=told.append)
    assert isinstance(encoder, TorchEncoder)
    assert timm.asked == [("resnet50", {})]
    assert (encoder.input_px, encoder.trained_px, encoder.um_per_px) == (16, 16, None)
    np.testing.assert_allclose(encoder.embed(PATCHES), means(0.5, 0.25), atol=0.05)
    (line,) = told
    assert line.startswith("encode: timm:resnet50 is not on this machine yet")
    assert "timm/resnet50.a1_in1k" in line


def test_uni_is_loaded_with_the_options_of_its_card(timm: Timm):
    told: list[str] = []
    encoder = open_encoder("uni", tell=told.append)
    assert timm.asked == [("hf-hub:MahmoodLab/UNI", {"init_values": 1e-5, "dynamic_img_size": True})]
    assert (encoder.input_px, encoder.trained_px, encoder.um_per_px) == (224, 224, 0.5)
    imagenet = means(np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))
    np.testing.assert_allclose(encoder.embed(PATCHES), imagenet, atol=0.05)
    assert "access must be requested at https://huggingface.co/MahmoodLab/UNI" in told[0]


def test_virchow2_gives_the_class_token_and_the_mean_of_its_patch_tokens(timm: Timm):
    encoder = open_encoder("virchow2")
    name, options = timm.asked[0]
    assert name == "hf-hub:paige-ai/Virchow2"
    assert options == {"global_pool": "", "mlp_layer": "SwiGLUPacked", "act_layer": nn.SiLU}
    found = encoder.embed(PATCHES)
    assert found.shape == (5, 6)
    np.testing.assert_allclose(found[:, 3:], found[:, :3] + 2, atol=1e-4)


def test_names_depend_on_the_weights(timm: Timm):
    uni, again = open_encoder("uni").name, open_encoder("hf-hub:MahmoodLab/UNI").name
    assert uni == again
    assert uni.startswith("uni-")
    assert open_encoder("timm:other").name.startswith("other-")
    assert open_encoder("timm:other").name[-8:] != uni[-8:]
    assert open_encoder("hf-hub:someone/net").name.startswith("someone.net-")


def test_weights_on_this_machine_need_no_network(timm: Timm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "nets" / "uni").mkdir(parents=True)
    (tmp_path / "nets" / "uni" / "config.json").write_text(json.dumps({"architecture": "vit"}))
    (tmp_path / "r.safetensors").touch()
    told: list[str] = []
    for name in ("uni@nets/uni", "local-dir:nets/uni", "timm:resnet50@r.safetensors"):
        open_encoder(name, folders=(tmp_path,), tell=told.append)
    assert [name for name, _ in timm.asked] == [f"local-dir:{tmp_path}/nets/uni"] * 2 + ["resnet50"]
    assert timm.asked[2][1] == {"pretrained_cfg_overlay": {"file": f"{tmp_path}/r.safetensors"}}
    assert told == []
    with pytest.raises(
        ConfigError, match=r"encode: uni@gone: no such file; expected it at .*gone; copy it there"
    ):
        open_encoder("uni@gone", folders=(tmp_path,))


def test_weights_in_the_cache_need_no_network(timm: Timm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        ConfigError, match=r"its weights are not on this machine and the hub cannot be reached"
    ):
        open_encoder("uni")
    assert timm.asked == [], "nothing was tried"
    asked: list[tuple[str, str]] = []

    def cached(repository: str, name: str, **revision: str) -> str | None:
        asked.append((repository, name))
        return str(tmp_path / name) if name == "pytorch_model.bin" else None

    sys.modules["huggingface_hub"].try_to_load_from_cache = cached  # type: ignore[attr-defined]
    told: list[str] = []
    open_encoder("uni", tell=told.append)
    assert asked == [("MahmoodLab/UNI", "model.safetensors"), ("MahmoodLab/UNI", "pytorch_model.bin")]
    assert told == []


@pytest.mark.parametrize(
    ("encode", "error", "message"),
    [
        ("uni2-h", GatedRepoError("401 Client Error\nmore"), r"denies access \(401 Client Error\); .* "
         r"https://huggingface\.co/MahmoodLab/UNI2-h, log in with: hf auth login, .*\"uni2-h@DIR\""),
        ("hf-hub:a/b", GatedRepoError("403"), r"https://huggingface\.co/a/b.*\"local-dir:DIR\""),
        ("timm:resnet50", LocalEntryNotFoundError("no file"), r"\(hf download timm/resnet50.a1_in1k "
         r"--local-dir DIR\) and use \"timm:resnet50@DIR/model.safetensors\""),
        ("uni", LocalEntryNotFoundError("no file"), r"run this once with a network .*"
         r"\(hf download MahmoodLab/UNI --local-dir DIR\) and use \"uni@DIR\""),
        ("timm:nonesuch", RuntimeError("Unknown model (nonesuch)"), r"timm cannot load it \(Unknown model"),
    ],
)  # fmt: skip
def test_errors_have_a_remedy(timm: Timm, encode: str, error: Exception, message: str):
    timm.error = error
    with pytest.raises(ConfigError, match=rf"encode: {encode}: .*{message}"):
        open_encoder(encode)


def test_phikon_v2_is_not_a_model_of_timm(timm: Timm):
    for name in ("phikon-v2", "hf-hub:owkin/phikon-v2"):
        with pytest.raises(ConfigError, match=r"a model of transformers, .*docs/encoders\.md"):
            open_encoder(name)


@pytest.mark.parametrize("error", [ImportError("No module named 'timm'"), RuntimeError("torchvision::nms")])
def test_timm_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch, error: Exception):
    def load(name: str) -> ModuleType:
        raise error

    monkeypatch.setattr("hardmil.encoders.timm_hub.import_module", load)
    with pytest.raises(
        ConfigError, match=r"timm cannot be imported .*pip install 'hardmil\[timm\]', with a torchv"
    ):
        open_encoder("uni")
