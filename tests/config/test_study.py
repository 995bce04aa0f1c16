import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from hardmil.config.mining import MiningConfig
from hardmil.config.model import ModelConfig, PoolingConfig, TrainingConfig
from hardmil.config.study import StudyConfig, model_config


def test_model_config_takes_all_that_training_depends_on():
    study = StudyConfig(pooling=PoolingConfig(lam=3.0), training=TrainingConfig(epochs=7))
    assert model_config(study) == ModelConfig(pooling=study.pooling, training=study.training)


def test_settings_are_frozen_and_known():
    with pytest.raises(ValidationError, match="frozen"):
        StudyConfig().seed = 3  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        MiningConfig.model_validate({"clusters": 3})


def test_every_setting_is_explained():
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


@pytest.mark.parametrize("encode", ["efficientnet-lite0", "uni", "virchow2@weights"])
def test_a_patch_far_from_what_an_encoder_was_trained_on_is_refused_unless_it_is_meant(encode: str):
    for size_px in (32, 64, 512):
        content: dict[str, Any] = {"encode": encode, "patches": {"size_px": size_px}}
        with pytest.raises(ValidationError, match=f"{size_px}, but {encode} was trained on 224 px"):
            StudyConfig.model_validate(content)
        assert StudyConfig.model_validate({**content, "encode_px": 112}).patches.size_px == size_px
    for size_px in (112, 256, 448):
        StudyConfig.model_validate({"encode": encode, "patches": {"size_px": size_px}})
