"""DSMIL, TransMIL, CLAM and DTFD-MIL as arms: they learn, mine, and are predicted with."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tests.support.trainings import feature_bags, small_config

from hardmil.config.model import PoolingConfig
from hardmil.config.study import StudyConfig
from hardmil.evaluation.arms import arm
from hardmil.mil.inference import bag_scores, score_bags
from hardmil.mil.rivals import rival_pooling
from hardmil.mil.training import fit

pytestmark = pytest.mark.slow

RIVALS = ("dsmil", "transmil", "clam-sb", "clam-mb", "dtfd")


@pytest.mark.parametrize("kind", RIVALS)
def test_each_is_an_arm_with_mining_and_with_the_instance_loss(kind: str):
    for name in (kind, f"{kind}+instance", f"{kind}-top5", f"{kind}+fmb-oof", f"{kind}+fmb-oof@random"):
        assert arm(name, study=StudyConfig(), kind="features").model.pooling.kind == kind


@pytest.mark.parametrize("kind", ["attention", "mean", "topk", "conjunctive"])
def test_other_poolings_are_not_rivals(kind: str):
    assert rival_pooling(PoolingConfig.model_validate({"kind": kind}), embedding_dim=4) is None


@pytest.mark.parametrize("kind", RIVALS)
def test_each_learns_what_is_planted_and_repeats_itself(kind: str):
    plain = small_config(epochs=15, lr=1e-2)
    config = plain.model_copy(update={"pooling": plain.pooling.model_copy(update={"kind": kind})})
    bags = feature_bags(60)
    training, held_out = bags[:40], bags[40:]
    scores = score_bags(fit(training, config=config, seed=3), held_out)
    labels = np.array([bag.label for bag in held_out])
    assert roc_auc_score(labels, bag_scores(scores)) > 0.85
    again = score_bags(fit(training, config=config, seed=3), held_out)
    np.testing.assert_array_equal(bag_scores(again), bag_scores(scores))
