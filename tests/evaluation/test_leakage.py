from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from hardmil.bags.bag import Bag
from hardmil.config.mining import MiningConfig
from hardmil.config.model import ModelConfig, resolve_config
from hardmil.errors import FoldError
from hardmil.evaluation.leakage import Guard
from hardmil.mil.network import BagClassifier
from hardmil.mining.hard_bags import HardBags
from hardmil.mining.hard_instances import HardInstance

CONFIG = resolve_config(ModelConfig(), kind="features")
GUARD = Guard(frozenset({"c0", "c1"}), where="arm ours, fold 2")


def _bag(number: int) -> Bag:
    return Bag(f"s{number}", f"c{number}", 0, np.zeros((2, 3), np.float32), np.zeros((2, 2), np.int64), 1)


def _mined(number: int) -> HardInstance:
    return HardInstance(1, f"s{number}", f"c{number}", 1, 0, 0, 1, 0.5, 0.9, -1, "train")


def _extra(number: int) -> HardBags:
    return HardBags([_mined(number)], {}, 1, MiningConfig(use="sb"), 0)


def _train(bags: Sequence[Bag], **rest: Any) -> BagClassifier:
    return BagClassifier(CONFIG, instance_shape=(3,))


def test_what_comes_from_the_training_fold_passes():
    watched = GUARD.watched(_train)
    extras = _extra(1)
    assert isinstance(watched([_bag(0), _bag(1)], config=CONFIG, seed=0, extras=extras), BagClassifier)
    GUARD.check_mined([_mined(0), _mined(1)])
    GUARD.check_bags([_bag(1)], what="a bag")


def test_a_planted_bag_or_instance_of_another_case_is_caught():
    watched = GUARD.watched(_train)
    where = "arm ours, fold 2: {} comes from case c7, which is not in the training fold"
    with pytest.raises(FoldError, match=where.format("a training bag")):
        watched([_bag(0), _bag(7)], config=CONFIG, seed=0)
    with pytest.raises(FoldError, match=where.format("a mined instance")):
        watched([_bag(0)], config=CONFIG, seed=0, extras=_extra(7))
    with pytest.raises(FoldError, match=where.format("instance 1 of slide s7, mined,")):
        GUARD.check_mined([_mined(0), _mined(7)])
    with pytest.raises(FoldError, match=where.format("the Fisher mixture")):
        GUARD.check_bags([_bag(7)], what="the Fisher mixture")
