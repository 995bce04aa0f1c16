import pytest
from pydantic import ValidationError

from hardmil.config.model import (
    ModelConfig,
    NetworkConfig,
    PoolingConfig,
    ResolvedModelConfig,
    TrainingConfig,
    resolve_config,
)


def test_open_settings_take_the_defaults_of_pixels():
    config = resolve_config(ModelConfig(), kind="pixels")
    assert (config.network.embedding_dim, config.network.dropout) == (512, 0.5)
    assert config.pooling.attention_dim == 128
    training = config.training
    assert (training.epochs, training.lr, training.weight_decay) == (120, 5e-5, 5e-4)


def test_open_settings_take_the_defaults_of_features():
    config = resolve_config(ModelConfig(), kind="features")
    assert (config.network.embedding_dim, config.network.dropout) == (128, 0.25)
    assert config.pooling.attention_dim == 64
    training = config.training
    assert (training.epochs, training.lr, training.weight_decay) == (30, 3e-4, 1e-3)


def test_settings_that_are_given_stay_even_zeros():
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


def test_an_open_setting_is_not_resolved():
    content = resolve_config(ModelConfig(), kind="features").model_dump()
    assert ResolvedModelConfig.model_validate(content) == resolve_config(ModelConfig(), kind="features")
    content["training"]["epochs"] = None
    with pytest.raises(ValidationError, match=r"training\.epochs"):
        ResolvedModelConfig.model_validate(content)
