import json
import re
from pathlib import Path

import numpy as np
import pytest
from tests.support.studies import Hardmil, quick, read_csv

from hardmil.bags.bag import Bag
from hardmil.bundles.bundle import load_bundle, read_card
from hardmil.errors import BundleError
from hardmil.mil.inference import score_bags, score_together

pytestmark = pytest.mark.slow


def test_verdicts_of_a_table_are_trained_on(hardmil: Hardmil, study: Path) -> None:
    assert hardmil("encode", study).code == 0
    (study / "verdicts.csv").write_text("slide_id,x,y,verdict\n001 a,24,24,lesion\n", encoding="utf-8")
    asking = ["--set", "arm=ours+verdicts", *quick("training.epochs=1")]
    missing = hardmil("train", study, *asking)
    assert "arm ours+verdicts: no verdict" in missing.err
    trained = hardmil("train", study, *asking, "--set", "mining.verdicts=verdicts.csv")
    assert trained.code == 0, trained.err
    (study / "verdicts.csv").write_text("slide_id,x,y,verdict\n001 a,24,24,unsure\n", encoding="utf-8")
    unsure = hardmil("train", study, *asking, "--set", "mining.verdicts=verdicts.csv")
    assert "arm ours+verdicts: no verdict on any patch of the training slides" in unsure.err
    (study / "verdicts.csv").write_text("slide_id,x,y,verdict\n001a,24,24,lesion\n", encoding="utf-8")
    other = hardmil("train", study, *asking, "--set", "mining.verdicts=verdicts.csv")
    assert "none of its slides has a bag: found 001a; expected" in other.err
    (study / "verdicts.csv").write_text("slide_id,x,y,verdict\n001 a,24,25,lesion\n", encoding="utf-8")
    wrong = hardmil("train", study, *asking, "--set", "mining.verdicts=verdicts.csv")
    assert re.search("line 2: no patch of slide 001 a.*x 24, y 25", wrong.err)


@pytest.mark.parametrize("target", ["sensitivity=0.9", "fpr=0.2", "youden"])
def test_the_bundle_says_what_its_threshold_is_for_and_predict_uses_it(
    hardmil: Hardmil, feature_study: Path, target: str
):
    trained = hardmil("train", feature_study, "--operating-point", target, "--json", *quick())
    assert trained.code == 0, trained.err
    card = read_card(feature_study / "bundle")
    point, calibration = card.operating, card.calibration
    assert point is not None
    assert calibration is not None
    assert (point.target, point.threshold.value) == (target, card.threshold)
    assert (point.n_positive, point.n_negative) == (6, 6)
    assert f"for {target}: sensitivity" in trained.text
    assert "Only 12 cases: with fewer than 40" in trained.text
    assert json.loads(trained.out)["operating"]["target"] == target
    run = hardmil(
        *("predict", feature_study / "bundle", "--slides", feature_study / "slides.csv"),
        *("--features", feature_study / "feats", "--output", feature_study / "said"),
    )
    assert run.code == 0, run.err
    assert f"set for {target}" in run.text
    for row in read_csv(feature_study / "said" / "predictions.csv"):
        score = float(row["bag_score"])
        assert row["op_prediction"] == row["prediction"] == str(int(score > card.threshold))
        (chance,) = calibration.probabilities(np.array([score]))
        assert float(row["prob_1"]) == pytest.approx(chance, abs=1e-7)


def test_without_operating_folds_the_threshold_is_a_half(hardmil: Hardmil, feature_study: Path):
    run = hardmil("train", feature_study, "--set", "evaluation.operating_folds=0", *quick())
    assert run.code == 0, run.err
    assert "threshold 0.5, not set on scores" in run.text
    assert "Only" not in run.text, "no interval is printed"
    card = read_card(feature_study / "bundle")
    assert (card.operating, card.calibration, card.threshold) == (None, None, 0.5)


def test_an_unknown_operating_point_is_refused(hardmil: Hardmil, feature_study: Path):
    run = hardmil("train", feature_study, "--operating-point", "specificity=0.9")
    assert run.code == 1
    assert "evaluation.operating_point: found 'specificity=0.9'" in run.err


def test_auto_trains_the_candidate_it_takes_and_the_bundle_says_which(hardmil: Hardmil, feature_study: Path):
    auto = ["--set", "arm=auto", "--set", "auto.candidates=[ours-mean, abmil, ours+fmb-oof]", *quick()]
    trained = hardmil("train", feature_study, "--json", *auto)
    assert trained.code == 0, trained.err
    card = read_card(feature_study / "bundle")
    assert card.choice is not None
    assert card.arm == card.choice.chosen
    assert [one.name for one in card.choice.candidates] == ["ours-mean", "abmil", "ours+fmb-oof"]
    assert f"auto took {card.arm} by out-of-fold auc" in trained.text
    assert json.loads(trained.out)["choice"]["chosen"] == card.arm
    again = hardmil("train", feature_study, *auto)
    assert "nothing to do" in again.text
    fewer = ["--set", "arm=auto", "--set", "auto.candidates=[ours-mean, abmil]", *quick()]
    assert "nothing to do" not in hardmil("train", feature_study, *fewer).text
    run = hardmil(
        *("predict", feature_study / "bundle", "--slides", feature_study / "slides.csv"),
        *("--features", feature_study / "feats", "--output", feature_study / "said"),
    )
    assert run.code == 0, run.err


def test_a_bundle_scores_as_its_arm_says(hardmil: Hardmil, feature_study: Path):
    """The score rule travels with the weights."""
    assert hardmil("train", feature_study, "--set", "arm=ours-mean", *quick()).code == 0
    bundle = load_bundle(feature_study / "bundle", device="cpu")
    assert bundle.network.config.pooling.score == "mean"
    assert bundle.card.choice is None


def test_a_bundle_of_several_networks_scores_with_all_of_them(hardmil: Hardmil, feature_study: Path):
    folder = feature_study / "bundle"
    assert hardmil("train", feature_study, "--set", "arm=ours-seeds3", *quick()).code == 0
    names = ["model-2.safetensors", "model-3.safetensors", "model.safetensors"]
    assert sorted(path.name for path in folder.rglob("*.safetensors")) == names
    bundle = load_bundle(folder, device="cpu")
    rng = np.random.default_rng(0)
    features = rng.normal(size=(6, *bundle.network.instance_shape)).astype(np.float32)
    bag = Bag("s", "c", -1, features, np.zeros((6, 2), np.int64), 0)
    (found,) = bundle.score([bag])
    (expected,) = score_together([bundle.network, *bundle.others], [bag])
    assert len(bundle.others) == 2
    assert found.bag_score == expected.bag_score != score_bags(bundle.network, [bag])[0].bag_score
    assert hardmil("train", feature_study, "--set", "arm=ours", *quick()).code == 0
    assert [path.name for path in folder.rglob("*.safetensors")] == ["model.safetensors"]
    assert hardmil("train", feature_study, "--set", "arm=ours-seeds3", *quick()).code == 0
    (folder / read_card(folder).content / "model-3.safetensors").unlink()
    with pytest.raises(BundleError, match=r"model-3\.safetensors: not the weights of a hardmil network"):
        load_bundle(folder)


def test_mine_shows_what_fools_an_arm_that_does_not_mine(hardmil: Hardmil, feature_study: Path) -> None:
    settings = ["--set", "arm=ours", "--set", "training.epochs=2", "--set", "evaluation.operating_folds=2"]
    trained = hardmil("train", feature_study, *settings, "--operating-point", "sensitivity=1.0")
    assert trained.code == 0, trained.err
    run = hardmil("mine", feature_study, "--json")
    assert run.code == 0, run.err
    values = json.loads(run.out)
    assert values["n_out_of_fold"] > 0
    assert f"{values['n_out_of_fold']} fooled a model that had not seen the slide" in run.text
    assert "arm: ours+instance+verdicts" in run.text
    rows = read_csv(feature_study / "mined" / "hard_negatives.csv")
    assert len(rows) == values["n_hard"]
    assert {row["source"] for row in rows} <= {"out-of-fold", "bundle"}
    assert len({(row["slide_id"], row["instance"]) for row in rows}) == len(rows)
    assert list((feature_study / "mined" / "geojson").glob("*.geojson"))


def test_mine_says_why_it_shows_nothing(hardmil: Hardmil, feature_study: Path) -> None:
    settings = ["--set", "arm=ours", "--set", "evaluation.operating_folds=0"]
    assert hardmil("train", feature_study, *settings, "--set", "training.epochs=60").code == 0
    run = hardmil("mine", feature_study)
    assert "0 hard negatives on 6 negative slides" in run.text
    assert "no out-of-fold scores: evaluation.operating_folds is 0" in run.text
    assert "verdicts" not in run.text
