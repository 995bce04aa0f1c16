"""What a finished file was made from: settings, slide and encoder."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from hardmil.bags.bag_file import Coords, read_coords
from hardmil.bags.slide_table import SlideRow
from hardmil.budget import GEOJSON_BYTES, read_bytes
from hardmil.config.patches import PatchConfig
from hardmil.config.section import fingerprint
from hardmil.config.study import PIXELS, InstanceConfig
from hardmil.errors import FeatureFileError
from hardmil.files.atomic import visible

# Attributes of `coords`: the settings, slide and encoder that a file was made from. A second run skips files
# that match, and processes a slide again that was changed, or corrected in the table.
SETTINGS_ATTRIBUTE = "hardmil_patches"

SLIDE_ATTRIBUTE = "hardmil_slide"

ENCODER_ATTRIBUTE = "hardmil_encoder"


def slide_fingerprints(row: SlideRow, *, config: PatchConfig) -> dict[str, str]:
    """Attributes that determine the pixels of a slide's patches; equalisation comes later.

    Size and time of the file are left out if it is missing: patches of a slide that was archived stay valid.
    """
    settings = {name: value for name, value in config.hashed().items() if name != "equalise"}
    annotated = None if row.annotations is None else _digest(row.annotations)
    name = row.path.name if row.path else None
    attributes = {SETTINGS_ATTRIBUTE: fingerprint([settings, row.mpp, name, annotated])}
    if row.path is not None and row.path.exists():
        # A DICOM slide is a folder of files.
        inside = visible(row.path.iterdir()) if row.path.is_dir() else [row.path]
        files = [path for path in inside if path.is_file()]
        found = [path.stat() for path in files]
        latest = max((one.st_mtime_ns for one in found), default=0)
        attributes[SLIDE_ATTRIBUTE] = f"{sum(one.st_size for one in found)} bytes, {latest} ns"
    return attributes


def instance_fingerprints(
    row: SlideRow, *, config: InstanceConfig, made_by: str | None = None
) -> dict[str, str]:
    """Attributes that determine the instances of a bag: those of its patches, and the encoder's settings.

    With `made_by`, the name of an open encoder, they also change with its weights.
    """
    attributes = slide_fingerprints(row, config=config.patches)
    if config.encode != PIXELS:
        seen = [config.patches.equalise, config.encode, config.encode_px]
        attributes[SETTINGS_ATTRIBUTE] = fingerprint([attributes[SETTINGS_ATTRIBUTE], *seen])
    if made_by is not None:
        attributes[ENCODER_ATTRIBUTE] = made_by
    return attributes


def finished_instances(
    path: Path, *, row: SlideRow, config: InstanceConfig, made_by: str | None
) -> int | None:
    """The number of instances in the file of a slide; None unless it was made from this slide and config.

    `made_by` is the name of the encoder that must have made it; None for pixels.
    """
    done = current_coords(path, instance_fingerprints(row, config=config, made_by=made_by))
    return None if done is None else len(done.coords)


def _digest(path: Path) -> str | None:
    """Hash of the content of a small file; None if it cannot be read, which its reader will report."""
    try:
        return hashlib.sha256(read_bytes(path, most=GEOJSON_BYTES)).hexdigest()[:12]
    except OSError:
        return None


def current_coords(path: Path, wanted: Mapping[str, str]) -> Coords | None:
    """The patch coordinates in a file, if it is complete and matches these fingerprints; otherwise None."""
    if not path.exists():
        return None
    try:
        found = read_coords(path)
    except FeatureFileError:
        return None
    same = all(found.attributes.get(name) == value for name, value in wanted.items())
    return found if same else None
