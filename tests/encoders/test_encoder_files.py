"""ONNX, TorchScript and torch.export: files of one small network, which are really run."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hardmil.encoders.open_encoder import open_encoder
from hardmil.errors import BagError, ConfigError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Small(nn.Module):
    """A convolution and the mean of its feature map: (n, 3, h, w) -> (n, 5)."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.convolution = nn.Conv2d(3, 5, kernel_size=3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolution(x).relu().mean(dim=(2, 3))


def export(path: Path, network: nn.Module, *, fixed: int | None = None, size: int = 40) -> Path:
    """Write the network to a file of the format of its suffix, with `fixed` for one batch size only."""
    network = network.eval()
    x = torch.zeros(fixed or 2, 3, size, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix == ".onnx":
            names = {"input_names": ["x"], "output_names": ["y"]}
            axes = None if fixed else {"x": {0: "n"}, "y": {0: "n"}}
            torch.onnx.export(network, (x,), path, dynamo=False, dynamic_axes=axes, **names)
        elif path.suffix == ".pt2":
            shapes = None if fixed else ({0: torch.export.Dim("n")},)
            torch.export.save(torch.export.export(network, (x,), dynamic_shapes=shapes), path)
        else:
            torch.jit.trace(network, x).save(str(path))
    return path


def patches(n: int = 7, size: int = 40) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, size, size, 3)).astype(np.uint8)


def expected(network: nn.Module, of: np.ndarray, mean: tuple = MEAN, std: tuple = STD) -> np.ndarray:
    """The output of the network in torch, one patch after the other."""
    found = []
    for patch in of:
        x = (patch.astype(np.float64) / 255 - np.array(mean)) / np.array(std)
        with torch.no_grad():
            found.append(network.eval()(torch.from_numpy(x.transpose(2, 0, 1)[None]).float())[0].numpy())
    return np.stack(found)


KINDS = ("net.onnx", "net.pt", "net.ts", "net.pt2")


@pytest.mark.parametrize("name", KINDS)
def test_a_file_gives_the_output_of_its_network_in_torch(tmp_path: Path, name: str):
    network = Small()
    encoder = open_encoder(str(export(tmp_path / name, network)))
    np.testing.assert_allclose(encoder.embed(patches()), expected(network, patches()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["net.onnx", "net.pt2"])
def test_a_file_with_a_fixed_batch_size_takes_any_number(tmp_path: Path, name: str):
    network = Small()
    encoder = open_encoder(str(export(tmp_path / name, network, fixed=3)))
    assert encoder.batch_size == 3
    for n in (1, 3, 7):
        found = encoder.embed(patches(n))
        np.testing.assert_allclose(found, expected(network, patches(n)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_the_card_next_to_the_file_is_used(tmp_path: Path, name: str):
    network, path = Small(), export(tmp_path / name, Small())
    plain = open_encoder(str(path)).name
    card = {"mean": [0.1, 0.2, 0.3], "std": [1, 0.5, 0.25], "input_px": 40, "um_per_px": 0.25}
    (tmp_path / f"{name}.json").write_text(json.dumps(card))
    encoder = open_encoder(str(path))
    assert (encoder.input_px, encoder.trained_px, encoder.um_per_px) == (40, 40, 0.25)
    wanted = expected(network, patches(), (0.1, 0.2, 0.3), (1, 0.5, 0.25))
    np.testing.assert_allclose(encoder.embed(patches()), wanted, rtol=1e-4, atol=1e-5)
    assert encoder.embed(patches(size=80)).shape == (7, 5), "resized to what it was trained on"
    assert encoder.name != plain, "another normalisation is another encoder"


@pytest.mark.parametrize("name", KINDS)
def test_the_name_depends_on_the_weights(tmp_path: Path, name: str):
    (tmp_path / "other").mkdir()
    one = open_encoder(str(export(tmp_path / name, Small(0)))).name
    other = open_encoder(str(export(tmp_path / "other" / name, Small(1)))).name
    assert one.startswith(f"{name}-")
    assert len(one) == len(name) + 9
    assert one != other
    assert open_encoder(str(tmp_path / name)).name == one


def test_patches_are_resized_for_a_network_of_fixed_size(tmp_path: Path):
    for name in ("net.onnx", "net.pt2"):
        encoder = open_encoder(str(export(tmp_path / name, Small(), size=40)))
        assert (encoder.input_px, encoder.trained_px) == (40, 40)
        assert encoder.embed(patches(size=64)).shape == (7, 5)
    wrong = open_encoder(str(tmp_path / "net.onnx"), input_px=64)
    with pytest.raises(
        BagError, match=r"encoder net\.onnx: onnxruntime failed on \(7, 3, 64, 64\).*set encode_px"
    ):
        wrong.embed(patches())


def test_half_precision_files_get_half_precision_input(tmp_path: Path):
    network = Small().bfloat16()
    x = torch.zeros(2, 3, 40, 40, dtype=torch.bfloat16)
    shapes = ({0: torch.export.Dim("n")},)
    torch.export.save(torch.export.export(network.eval(), (x,), dynamic_shapes=shapes), tmp_path / "half.pt2")
    found = open_encoder(str(tmp_path / "half.pt2")).embed(patches())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(Small(), patches()), rtol=0.1, atol=0.02)


def test_a_relative_path_starts_in_the_first_folder_that_has_it(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b" / "nets").mkdir(parents=True)
    export(tmp_path / "b" / "nets" / "net.onnx", Small())
    folders = (tmp_path / "a", tmp_path / "b")
    assert open_encoder("nets/net.onnx", folders=folders).embed(patches()).shape == (7, 5)
    with pytest.raises(
        ConfigError, match=r"no\.onnx: no such file; expected it at .*a/no\.onnx or .*b/no\.onnx"
    ):
        open_encoder("no.onnx", folders=folders)


@pytest.mark.parametrize(
    ("name", "expects"),
    [
        ("x.onnx", "expected an ONNX network"),
        ("x.pt", "expected TorchScript"),
        ("x.pt2", "expected torch.export"),
    ],
)
@pytest.mark.parametrize("content", [b"", b"no network", b"PK\x03\x04 cut short"])
def test_files_without_a_network_are_refused(tmp_path: Path, name: str, expects: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"encode: .*{name}: cannot be opened .*{expects}"):
        open_encoder(str(tmp_path / name))


def test_weights_without_a_network_are_refused(tmp_path: Path):
    torch.save(Small().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match="weights alone"):
        open_encoder(str(tmp_path / "weights.pt"))


class _Grey(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


@pytest.mark.parametrize("name", ["grey.onnx", "grey.pt2"])
def test_a_network_of_other_input_is_refused(tmp_path: Path, name: str):
    x = torch.zeros(2, 1, 40, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "grey.onnx":
            torch.onnx.export(_Grey(), (x,), tmp_path / name, dynamo=False)
        else:
            torch.export.save(torch.export.export(_Grey(), (x,)), tmp_path / name)
    with pytest.raises(ConfigError, match=r"its network takes .*2, 1, 40, 40.*export it again"):
        open_encoder(str(tmp_path / name))


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("{", "not a valid card of an encoder"),
        ('{"means": [0, 0, 0]}', r"not a valid card of an encoder \(Extra inputs"),
        ('{"std": [1, 0, 1]}', r"std is \[1.0, 0.0, 1.0\]; expected numbers above 0"),
    ],
)
def test_invalid_cards_are_refused(tmp_path: Path, card: str, message: str):
    path = export(tmp_path / "net.pt", Small())
    (tmp_path / "net.pt.json").write_text(card)
    with pytest.raises(ConfigError, match=message):
        open_encoder(str(path))


def test_missing_onnxruntime_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'hardmil\[onnx\]'"):
        open_encoder(str(export(tmp_path / "net.onnx", Small())))
