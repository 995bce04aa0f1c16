import sys
from pathlib import Path

import pytest
import torch
from tests.support.bundles import small_bundle

from hardmil.bundles.bundle import Bundle, load_bundle, save_bundle
from hardmil.bundles.bundle_encoder import bundle_encoder
from hardmil.bundles.prediction import predict
from hardmil.config.known_encoders import runs_code
from hardmil.config.patches import PatchConfig
from hardmil.encoders.file_card import file_name
from hardmil.errors import ConfigError

MODULE = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
def encode(patches):
    return patches.reshape(len(patches), -1)[:, :4].astype("float32")
"""


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose module leaves the file `ran` when it is imported."""
    (tmp_path / "evil_encoder.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "evil_encoder", raising=False)
    return tmp_path


def bundle_naming(encode: str, folder: Path, *, encoder: str | None = None) -> Bundle:
    """A bundle on disk that names this encoder."""
    plain = small_bundle((4,))
    changes = {"encode": encode, "encoder": encoder, "patches": PatchConfig(size_px=24)}
    save_bundle(folder / "bundle", Bundle(plain.network, plain.card.model_copy(update=changes)))
    return load_bundle(folder / "bundle", device="cpu")


def test_a_module_that_a_bundle_names_runs_only_if_trusted(evil: Path):
    bundle = bundle_naming("evil_encoder:encode", evil)
    with pytest.raises(
        ConfigError, match=r"evil_encoder:encode, which is code .* Python module.*--trust-encoder"
    ):
        bundle_encoder(bundle)
    with pytest.raises(ConfigError, match="--trust-encoder"):
        predict(bundle, slides=[evil / "a.png"], output=evil / "out", quiet=True)
    assert not (evil / "ran").exists()
    encoder = bundle_encoder(bundle, trust=True)
    assert encoder is not None
    assert (evil / "ran").exists()


@pytest.mark.parametrize("suffix", [".pt", ".ts", ".pt2", ".PT2"])
def test_a_network_with_code_that_a_bundle_names_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
):
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("the file was opened")

    monkeypatch.setattr("hardmil.encoders.torch_file.open_torch_file", opened)
    path = tmp_path / f"evil{suffix}"
    path.write_bytes(b"code")
    with pytest.raises(ConfigError, match=rf"code .*: the file {path}; .*--trust-encoder"):
        bundle_encoder(bundle_naming(path.name, tmp_path, encoder=file_name(path)))
    with pytest.raises(ConfigError, match="expected the same weights"):
        bundle_encoder(bundle_naming(path.name, tmp_path, encoder="evil-12345678"), trust=True)
    with pytest.raises(AssertionError, match="was opened"):
        bundle_encoder(bundle_naming(path.name, tmp_path, encoder=file_name(path)), trust=True)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_trusted_network_runs(tmp_path: Path):
    path = tmp_path / "small.ts"
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 24 * 24, 4))
    torch.jit.trace(network, torch.zeros(1, 3, 24, 24)).save(path)
    encoder = bundle_encoder(bundle_naming("small.ts", tmp_path, encoder=file_name(path)), trust=True)
    assert encoder is not None
    assert encoder.name == file_name(path)


@pytest.mark.parametrize(
    ("encode", "expected"),
    [
        *[("pixels", False), ("efficientnet-lite0", False), ("uni", False), ("uni@weights", False)],
        *[("timm:resnet50", False), ("hf-hub:a/b", False), ("local-dir:x", False), ("a.onnx", False)],
        *[("a.pt", True), ("x/a.ts", True), ("a.pt2", True), ("module:function", True), (":x", True)],
    ],
)
def test_which_encoders_are_code(encode: str, expected: bool):
    assert runs_code(encode) == expected
