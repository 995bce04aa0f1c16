"""Other tissue settings than those a bundle was trained with, for slides on which they find too little."""

from collections.abc import Sequence

from hardmil.config.patches import PatchConfig
from hardmil.config.study_file import parse_study, put_overrides
from hardmil.errors import ConfigError

CHANGEABLE = ("patches.min_tissue", "patches.tissue_rule", "patches.tissue")


def with_tissue_settings(patches: PatchConfig, overrides: Sequence[str]) -> PatchConfig:
    """How patches are made, with other settings of tissue.

    Args:
        patches: The settings of a bundle.
        overrides: Such as "patches.min_tissue=0".

    Raises:
        ConfigError: If an override is of another setting, which the model was trained with, or is not valid.
    """
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key not in CHANGEABLE and not key.startswith("patches.tissue."):
            raise ConfigError(
                f"--set {override}: the model was trained with {key} as it is; expected a setting of what "
                f"counts as tissue: {', '.join(CHANGEABLE[:2])}, patches.tissue.*"
            )
    content: dict[str, object] = {"patches": patches.model_dump(mode="json")}
    put_overrides(content, overrides)
    return parse_study(content, source="--set").patches
