import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hardmil.bags.bag import Bag
from hardmil.bundles.bundle import Bundle, Card, load_bundle, read_card, save_bundle
from hardmil.bundles.training_profile import profile_of
from hardmil.config.model import ModelConfig, resolve_config
from hardmil.config.patches import PatchConfig
from hardmil.errors import BagError, BundleError, TrainingError
from hardmil.mil.inference import score_bags
from hardmil.mil.network import BagClassifier
from hardmil.mil.operating import set_operating_point

SHAPES = pytest.mark.parametrize("shape", [(4,), (24, 24, 3)], ids=["features", "pixels"])


def _bag(shape: tuple[int, ...], name: str = "s1") -> Bag:
    rng = np.random.default_rng(0)
    instances = (20 * rng.random((6, *shape))).astype(np.uint8 if len(shape) == 3 else np.float32)
    return Bag(name, "c", -1, instances, np.zeros((6, 2), np.int64), 0)


def _bundle(shape: tuple[int, ...]) -> Bundle:
    torch.manual_seed(1)
    content = {"network": {"embedding_dim": 8}, "pooling": {"kind": "gated-attention", "lam": 3.0}}
    config = resolve_config(ModelConfig.model_validate(content), kind="features")
    network = BagClassifier(config, instance_shape=shape).eval()
    if len(shape) == 1:
        network.embed.standardise_by(mean=np.arange(4, dtype=np.float32), scale=np.full(4, 2, np.float32))
    card = Card(
        hardmil="0.1.0",
        fingerprint="abc",
        arm="ours+fmb-oof",
        classes=("normal", "tumour"),
        threshold=0.25,
        instances="pixels" if len(shape) == 3 else "features",
        patches=PatchConfig(size_px=24) if len(shape) == 3 else None,
        training_slides=("s1", "007"),
        n_false_positive_bags=2,
        n_hard=5,
    )
    return Bundle(network, card)


@SHAPES
def test_saved_then_loaded_is_the_same(shape: tuple[int, ...], tmp_path: Path):
    bundle, bag = _bundle(shape), _bag(shape)
    save_bundle(tmp_path / "bundle", bundle)
    loaded = load_bundle(tmp_path / "bundle")
    assert loaded.card == bundle.card == read_card(tmp_path / "bundle")
    assert loaded.network.config == bundle.network.config
    assert loaded.network.instance_shape == shape
    assert not loaded.network.training
    before, after = score_bags(bundle.network, [bag])[0], score_bags(loaded.network, [bag])[0]
    assert before.bag_score == after.bag_score
    np.testing.assert_array_equal(before.attention, after.attention)
    np.testing.assert_array_equal(before.instance_logit, after.instance_logit)


def test_saving_again_replaces_the_card_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_bundle(tmp_path, _bundle((4,)))

    def killed(path: Path, network: BagClassifier) -> None:
        raise KeyboardInterrupt("killed")

    monkeypatch.setattr("hardmil.bundles.bundle.save_network", killed)
    with pytest.raises(KeyboardInterrupt, match="killed"):
        save_bundle(tmp_path, _bundle((4,)))
    with pytest.raises(BundleError, match=r"no bundle\.json in it"):
        read_card(tmp_path)


def test_a_folder_without_a_bundle(tmp_path: Path):
    with pytest.raises(BundleError, match=r"nosuch: no bundle\.json .* hardmil train"):
        load_bundle(tmp_path / "nosuch")


def _change_card(folder: Path, **changes: Any) -> None:
    path = folder / "bundle.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "dropped"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, r"bundle\.json: bundle format 2, this hardmil reads format 1; train it again"),
        ({"format": "dropped"}, "bundle format None, this hardmil reads format 1"),
        ({"threshold": "dropped"}, r"bundle\.json: threshold: Field required; train it again"),
        ({"classes": ["one"]}, r"bundle\.json: classes.*: .*; train it again"),
        ({"colour": "red"}, r"bundle\.json: colour: Extra inputs"),
    ],
)
def test_cards_of_another_version(changes: dict[str, Any], message: str, tmp_path: Path):
    save_bundle(tmp_path, _bundle((4,)))
    _change_card(tmp_path, **changes)
    with pytest.raises(BundleError, match=message):
        load_bundle(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_other_files_are_not_taken_for_cards(content: str, tmp_path: Path):
    (tmp_path / "bundle.json").write_text(content)
    with pytest.raises(BundleError, match=r"bundle\.json: (not the card of a bundle|bundle format None)"):
        read_card(tmp_path)


@SHAPES
def test_bags_of_another_shape_are_refused(shape: tuple[int, ...]):
    bundle = _bundle(shape)
    assert bundle.check(_bag(shape, "good")).slide_id == "good"
    for other in [(5,), (27, 27, 3), (24, 27, 3)]:
        expected = rf"slide bad: instances of shape {other}, the bundle was trained on {shape};".replace(
            "(", r"\("
        ).replace(")", r"\)")
        with pytest.raises(BagError, match=expected):
            bundle.check(_bag(other, "bad"))


def test_a_card_of_an_earlier_version_loads(tmp_path: Path):
    """Before: `familiar` for the training profile, `asked` for the target of the operating point."""
    bundle = _bundle((4,))
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.3, 0.9])
    card = bundle.card.model_copy(
        update={
            "training_profile": profile_of([_bag((4,))]),
            "operating": set_operating_point(labels, scores, cases=list("abcd"), target="fpr=0.05"),
        }
    )
    save_bundle(tmp_path, Bundle(bundle.network, card))
    content = json.loads((tmp_path / "bundle.json").read_text())
    content["familiar"] = content.pop("training_profile")
    content["operating"]["asked"] = content["operating"].pop("target")
    (tmp_path / "bundle.json").write_text(json.dumps(content))
    assert load_bundle(tmp_path).card == card


def test_a_bundle_says_where_it_is_and_where_it_runs(tmp_path: Path):
    save_bundle(tmp_path, _bundle((4,)))
    bundle = load_bundle(tmp_path, device="cpu")
    assert (bundle.folder, bundle.device) == (tmp_path, "cpu")
    with pytest.raises(TrainingError, match="device nosuch"):
        load_bundle(tmp_path, device="nosuch")
