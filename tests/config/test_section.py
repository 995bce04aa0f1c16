import pytest
from pydantic import ValidationError

from hardmil.config.mining import MiningConfig
from hardmil.config.model import (
    ModelConfig,
    NetworkConfig,
    PoolingConfig,
    RankLossConfig,
    TrainingConfig,
    resolve_config,
)
from hardmil.config.section import fingerprint
from hardmil.config.study import StudyConfig


def test_fingerprint_changes_with_any_setting():
    seen = {StudyConfig().fingerprint()}
    changes = {
        "seed": 1,
        "network": NetworkConfig(dropout=0.1),
        "pooling": PoolingConfig(lam=1.0),
        "training": TrainingConfig(select="last"),
        "mining": MiningConfig(n_clusters=5),
    }
    for name, value in changes.items():
        seen.add(StudyConfig().model_copy(update={name: value}).fingerprint())
    assert len(seen) == 1 + len(changes)
    assert StudyConfig().fingerprint() == StudyConfig(seed=0).fingerprint()


def test_fingerprint_does_not_mind_the_order_of_keys():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": [1, 2]}) != fingerprint({"a": [2, 1]})


def test_a_setting_added_later_keeps_old_hashes_at_its_default():
    before = StudyConfig().model_dump(mode="json")
    for name in ("score", "top_k", "mask_top", "mask_share", "smooth_steps", "smooth_alpha", "attention"):
        del before["pooling"][name]
    assert StudyConfig().hashed()["pooling"] == before["pooling"]
    assert not {"rank_loss", "bag_mix", "teacher"} & StudyConfig().hashed().keys()
    ranked = StudyConfig(rank_loss=RankLossConfig(margin=2.0)).hashed()
    assert ranked == StudyConfig().hashed() | {"rank_loss": {"weight": 0.0, "margin": 2.0, "queue": 16}}
    changed = StudyConfig(pooling=PoolingConfig(score="top", top_k=3))
    assert changed.hashed()["pooling"] == before["pooling"] | {"score": "top", "top_k": 3}
    # The hash of the model settings in rows recorded before these settings existed.
    assert resolve_config(ModelConfig(), kind="features").fingerprint() == "291249042630"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"seed": True}, "expected a number; true and false are none"),
        ({"seed": "yes"}, "valid integer"),
        ({"seed": "1_000"}, "expected a number without _, such as 1000"),
        ({"patches": {"um_per_px": "1_0"}}, "expected a number without _, such as 10"),
        ({"training": {"lr": float("inf")}}, "finite number"),
    ],
)
def test_what_only_looks_like_a_number_is_refused(content: dict[str, object], message: str):
    with pytest.raises(ValidationError, match=message):
        StudyConfig.model_validate(content)
