import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.bundles import small_bundle
from tests.support.many_classes import EXCLUSIVE, drawn_class_scores
from tests.support.processes import DIES_AT_A_RENAME

from hardmil.bags.bag import Bag
from hardmil.bundles.bundle import Bundle, Card, load_bundle, read_card, save_bundle
from hardmil.bundles.training_profile import profile_of
from hardmil.errors import BagError, BundleError, StoreError, TrainingError
from hardmil.files.drafts import remove_drafts
from hardmil.mil.class_calibration import fit_class_calibration
from hardmil.mil.class_operating import set_class_operating_points
from hardmil.mil.inference import score_bags
from hardmil.mil.operating import set_operating_point

SHAPES = pytest.mark.parametrize("shape", [(4,), (24, 24, 3)], ids=["features", "pixels"])


def _bag(shape: tuple[int, ...], name: str = "s1") -> Bag:
    rng = np.random.default_rng(0)
    instances = (20 * rng.random((6, *shape))).astype(np.uint8 if len(shape) == 3 else np.float32)
    return Bag(name, "c", -1, instances, np.zeros((6, 2), np.int64), 0)


@SHAPES
def test_saved_then_loaded_is_the_same(shape: tuple[int, ...], tmp_path: Path):
    bundle, bag = small_bundle(shape), _bag(shape)
    card = save_bundle(tmp_path / "bundle", bundle)
    loaded = load_bundle(tmp_path / "bundle")
    assert loaded.card == card == read_card(tmp_path / "bundle")
    assert card == bundle.card.model_copy(update={"content": card.content})
    assert loaded.network.config == bundle.network.config
    assert loaded.network.instance_shape == shape
    assert not loaded.network.training
    before, after = score_bags(bundle.network, [bag])[0], score_bags(loaded.network, [bag])[0]
    assert before.bag_score == after.bag_score
    np.testing.assert_array_equal(before.attention, after.attention)
    np.testing.assert_array_equal(before.instance_logit, after.instance_logit)


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["save_network", "write_table", "write_json"])
def test_the_earlier_bundle_serves_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    bundle = small_bundle((4,))
    card = save_bundle(tmp_path, bundle, tables={"hard_negatives.csv": []})
    before = _files(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(f"hardmil.bundles.bundle.{name}", full)
    with pytest.raises(StoreError, match="the disk is full"):
        save_bundle(tmp_path, bundle, tables={"hard_negatives.csv": []})
    assert load_bundle(tmp_path, device="cpu").card == card
    assert _files(tmp_path) == before


KILLED = f"""{DIES_AT_A_RENAME}
from tests.support.bundles import small_bundle
from tests.support.many_classes import EXCLUSIVE, drawn_class_scores
from hardmil.bundles.bundle import save_bundle
save_bundle(folder, small_bundle((4,)), tables={{"hard_negatives.csv": []}})
"""


def test_a_training_that_is_killed_while_it_saves_leaves_the_earlier_bundle(tmp_path: Path):
    card = save_bundle(tmp_path, small_bundle((4,)))
    for after in (1, 2, 3):
        call = [sys.executable, "-c", KILLED, str(tmp_path), str(after)]
        assert subprocess.run(call, check=False).returncode == -signal.SIGKILL
        assert load_bundle(tmp_path, device="cpu").card == card
    save_bundle(tmp_path, small_bundle((4,)))
    remove_drafts(tmp_path)
    assert _files(tmp_path) == ["bundle.json", "model.safetensors"], "what killed trainings left is gone"


def test_a_bundle_that_is_replaced_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from hardmil.bundles import bundle as bundle_module

    save_bundle(tmp_path, small_bundle((4,)))
    plain, cards = bundle_module.read_card, []

    def read(folder: Path) -> Card:
        cards.append(plain(folder))
        if len(cards) == 1:
            save_bundle(tmp_path, small_bundle((4,)))
        return cards[-1]

    monkeypatch.setattr(bundle_module, "read_card", read)
    assert load_bundle(tmp_path, device="cpu").card == cards[-1] != cards[0]


def test_a_bundle_of_format_1_loads_and_is_replaced(tmp_path: Path):
    """Its weights are next to the card."""
    card = save_bundle(tmp_path, small_bundle((4,)))
    for path in (tmp_path / card.content).iterdir():
        path.rename(tmp_path / path.name)
    content = json.loads((tmp_path / "bundle.json").read_text())
    del content["content"]
    (tmp_path / "bundle.json").write_text(json.dumps(content | {"format": 1}))
    assert load_bundle(tmp_path, device="cpu").card.format == 1
    save_bundle(tmp_path, small_bundle((4,)))
    assert _files(tmp_path) == ["bundle.json", "model.safetensors"]
    assert not (tmp_path / "model.safetensors").exists()


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
        ({"format": 4}, r"bundle\.json: bundle format 4, this hardmil reads formats 1 to 3; train it again"),
        ({"format": "dropped"}, "bundle format None, this hardmil reads formats 1"),
        ({"content": "../other"}, "content: String should match pattern"),
        ({"threshold": 5}, "threshold: Input should be less than or equal to 1"),
        ({"threshold": float("nan")}, "threshold: Input should be"),
        ({"threshold": float("inf")}, "threshold: Input should be"),
        ({"calibration": {"method": "temperature", "temperature": 0}}, "temperature: .* greater than 0"),
        ({"calibration": {"method": "temperature", "shift": float("nan")}}, "shift: .* finite"),
        ({"calibration": {"method": "isotonic"}}, "isotonic without knots"),
        ({"calibration": {"method": "isotonic", "knots": [[1, 0], [0, 1]]}}, "not sorted by score"),
        ({"threshold": "dropped"}, r"bundle\.json: threshold: Field required; train it again"),
        ({"classes": ["one"]}, r"bundle\.json: classes.*: .*; train it again"),
        ({"colour": "red"}, r"bundle\.json: colour: Extra inputs"),
    ],
)
def test_cards_of_another_version(changes: dict[str, Any], message: str, tmp_path: Path):
    save_bundle(tmp_path, small_bundle((4,)))
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
    bundle = small_bundle(shape)
    assert bundle.check(_bag(shape, "good")).slide_id == "good"
    for other in [(5,), (27, 27, 3), (24, 27, 3)]:
        expected = rf"slide bad: instances of shape {other}, the bundle was trained on {shape};".replace(
            "(", r"\("
        ).replace(")", r"\)")
        with pytest.raises(BagError, match=expected):
            bundle.check(_bag(other, "bad"))


def test_a_card_of_an_earlier_version_loads(tmp_path: Path):
    """Before: `familiar` for the training profile, `asked` for the target of the operating point."""
    bundle = small_bundle((4,))
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.3, 0.9])
    card = bundle.card.model_copy(
        update={
            "training_profile": profile_of([_bag((4,))]),
            "operating": set_operating_point(labels, scores, cases=list("abcd"), target="fpr=0.05"),
        }
    )
    card = save_bundle(tmp_path, Bundle(bundle.network, card))
    content = json.loads((tmp_path / "bundle.json").read_text())
    content["familiar"] = content.pop("training_profile")
    content["operating"]["asked"] = content["operating"].pop("target")
    (tmp_path / "bundle.json").write_text(json.dumps(content))
    assert load_bundle(tmp_path).card == card


def test_a_bundle_says_where_it_is_and_where_it_runs(tmp_path: Path):
    save_bundle(tmp_path, small_bundle((4,)))
    bundle = load_bundle(tmp_path, device="cpu")
    assert (bundle.folder, bundle.device) == (tmp_path, "cpu")
    with pytest.raises(TrainingError, match="device nosuch"):
        load_bundle(tmp_path, device="nosuch")


def test_the_card_of_two_classes_says_nothing_of_more(tmp_path: Path):
    save_bundle(tmp_path, small_bundle((4,)))
    content = json.loads((tmp_path / "bundle.json").read_text(encoding="utf-8"))
    assert content["format"] == 2
    assert not {"task", "class_operating", "class_calibration"} & content.keys()


def _class_card(**changed: Any) -> Card:
    labels, scores = np.arange(12) % 3, drawn_class_scores(np.arange(12) % 3)
    cases = [str(i) for i in range(12)]
    points = set_class_operating_points(labels, scores, task=EXCLUSIVE, cases=cases, target="youden")
    calibration = fit_class_calibration(labels, scores, method="vector", task=EXCLUSIVE)
    fields = {"classes": EXCLUSIVE.names, "task": EXCLUSIVE, "class_operating": points}
    content = small_bundle((4,)).card.model_dump() | fields | {"class_calibration": calibration}
    return Card.model_validate(content | changed)


def test_thresholds_and_calibration_of_three_classes_come_back(tmp_path: Path):
    card = _class_card()
    saved = save_bundle(tmp_path, replace(small_bundle((4,)), card=card))
    assert saved.format == 3
    assert read_card(tmp_path) == saved
    assert (saved.thresholds, saved.target) == (card.thresholds, "youden")
    assert len(saved.thresholds) == 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": ("normal", "a")}, "classes normal, a do not fit task normal, a, b"),
        ({"class_operating": _class_card().class_operating[:2]}, "2 operating points; expected 3"),
    ],
)
def test_a_card_whose_classes_do_not_fit_is_refused(changed: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        _class_card(**changed)
