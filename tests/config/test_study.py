import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from hardmil.config.mining import MiningConfig, parse_sensitivity
from hardmil.config.model import ModelConfig, NetworkConfig, PoolingConfig, TrainingConfig, resolve_config
from hardmil.config.section import fingerprint
from hardmil.config.study import StudyConfig, model_config


def test_open_knobs_take_the_defaults_of_pixels():
    config = resolve_config(ModelConfig(), kind="pixels")
    assert (config.network.embedding_dim, config.network.dropout) == (512, 0.5)
    assert config.pooling.attention_dim == 128
    training = config.training
    assert (training.epochs, training.lr, training.weight_decay) == (120, 5e-5, 5e-4)


def test_open_knobs_take_the_defaults_of_features():
    config = resolve_config(ModelConfig(), kind="features")
    assert (config.network.embedding_dim, config.network.dropout) == (128, 0.25)
    assert config.pooling.attention_dim == 64
    training = config.training
    assert (training.epochs, training.lr, training.weight_decay) == (30, 3e-4, 1e-3)


def test_knobs_that_are_set_stay_zero_too():
    given = ModelConfig(
        network=NetworkConfig(dropout=0.0),
        training=TrainingConfig(epochs=3, weight_decay=0.0),
        pooling=PoolingConfig(attention_dim=5, lam=1.5),
    )
    config = resolve_config(given, kind="pixels")
    assert (config.network.embedding_dim, config.network.dropout) == (512, 0.0)
    assert (config.pooling.attention_dim, config.pooling.lam) == (5, 1.5)
    assert (config.training.epochs, config.training.lr, config.training.weight_decay) == (3, 5e-5, 0.0)
    assert resolve_config(config, kind="features") == config


def test_fingerprint_changes_with_any_knob():
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


def test_model_config_takes_all_that_training_depends_on():
    study = StudyConfig(pooling=PoolingConfig(lam=3.0), training=TrainingConfig(epochs=7))
    assert model_config(study) == ModelConfig(pooling=study.pooling, training=study.training)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [("sensitivity=0.95", 0.95), ("sensitivity=.9", 0.9), ("sensitivity=1", 1.0), (0.5, None), (0.0, None)],
)
def test_wanted_sensitivity(threshold: float | str, expected: float | None):
    assert parse_sensitivity(threshold) == expected


@pytest.mark.parametrize(
    "threshold", ["sensitivity=0", "sensitivity=1.5", "specificity=0.9", "0.5", 1.5, -0.1]
)
def test_thresholds_that_are_none(threshold: float | str):
    with pytest.raises(ValueError, match=r'a score from 0 to 1 or "sensitivity=0.95", not'):
        parse_sensitivity(threshold)
    with pytest.raises(ValidationError, match="a threshold is a score"):
        MiningConfig(threshold=threshold)


def test_knobs_are_frozen_and_known():
    with pytest.raises(ValidationError, match="frozen"):
        StudyConfig().seed = 3  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        MiningConfig.model_validate({"clusters": 3})


def test_every_knob_is_explained():
    sections: list[Any] = [StudyConfig]
    while sections:
        model = sections.pop()
        for name, field in model.model_fields.items():
            is_section = hasattr(field.annotation, "model_fields")
            sections += [field.annotation] * is_section
            assert is_section or field.description, f"{model}.{name}"


def test_config_needs_no_torch():
    code = "import sys, hardmil.config, hardmil.config.study_file; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
