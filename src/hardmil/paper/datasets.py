"""The two data sets of the paper, and its settings for them."""

from pathlib import Path

from hardmil.config.model import TrainingConfig
from hardmil.config.patches import PatchConfig, TissueConfig
from hardmil.config.study import PIXELS, StudyConfig
from hardmil.errors import ConfigError
from hardmil.paper.colon import read_colon
from hardmil.paper.images import PublishedSet
from hardmil.paper.packed import SUFFIX, read_packed
from hardmil.paper.ucsb import read_ucsb

COLON_PX, UCSB_PX = 27, 32
PAPER_TISSUE = {"tissue_rule": "s-or-v", "tissue": TissueConfig(drop_pen=False)}
# For an encoder: colon, 100 patches of 35 um in each image, enlarged to 112 px; UCSB, 48 patches, enlarged to
# 224.
ENCODED = {
    "colon": (PatchConfig(um_per_px=None, size_px=64, overlap_px=16, **PAPER_TISSUE), 112),
    "ucsb": (PatchConfig(um_per_px=None, size_px=112, **PAPER_TISSUE), 224),
}


def published_config(name: str, *, encode: str = PIXELS) -> StudyConfig:
    """The paper's settings for colon or ucsb; what the paper leaves open takes the default of the setting.

    With an encoder, which the paper does not use: larger patches, and the training defaults for features.
    """
    if encode != PIXELS:
        patches, encode_px = ENCODED[name]
        return StudyConfig(encode=encode, encode_px=encode_px, patches=patches)
    size_px = COLON_PX if name == "colon" else UCSB_PX
    patches = PatchConfig(um_per_px=None, size_px=size_px, **PAPER_TISSUE)
    if name == "colon":
        training = TrainingConfig(epochs=120, lr=5e-5, weight_decay=5e-4)
    else:
        training = TrainingConfig(epochs=300, lr=5e-6, weight_decay=1e-4)
    return StudyConfig(patches=patches, training=training)


def read_published(name: str, *, folder: Path, split: str, config: PatchConfig) -> PublishedSet:
    """The bags of colon or ucsb; a case is an image or a group of images.

    Args:
        name: colon or ucsb.
        folder: The set's folder, in its original layout, or the one above it; or a file of `write_packed`.
        split: `image`, each image is a case; `group`, images of one field (colon: abutting tiles) or of one
            array (ucsb: start of the name) are a case.
        config: How patches are extracted and equalised.

    Raises:
        TableError: If the set is not in the folder in its layout.
        ConfigError: If patches are nuclei and the set has no annotated nuclei, or a file holds other patches.
        FeatureFileError: If a file is not a packed set.
    """
    if folder.suffix == SUFFIX:
        return read_packed(folder, name=name, split=split, config=config)
    if name == "colon":
        return read_colon(folder, split=split, config=config)
    if config.mode == "nuclei":
        raise ConfigError(
            "ucsb: the set has no annotated nuclei; expected patches grid; run without --patches nuclei"
        )
    return read_ucsb(folder, split=split, config=config)
