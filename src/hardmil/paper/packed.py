"""A published set in one file: the patches of its images, compressed, to be carried to another machine."""

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from hardmil.bags.bag import Bag
from hardmil.bags.h5_fields import values_of
from hardmil.config.patches import PatchConfig
from hardmil.errors import ConfigError, FeatureFileError
from hardmil.evaluation.truth import Truth
from hardmil.files.h5 import open_h5, write_h5
from hardmil.paper.images import PublishedSet
from hardmil.slides.color import equalise

SUFFIX = ".h5"

_CONTENT = "hardmil_published_set"
"""Attribute of the file: everything but patches, coordinates and truth, as JSON."""


def write_packed(path: Path, sets: Mapping[str, PublishedSet], *, name: str, config: PatchConfig) -> None:
    """Write a set with its patches as lossless WebP, which halves them.

    Args:
        path: The file to write.
        sets: The set by split: equal bags with other cases. Patches must not be equalised.
        name: colon or ucsb.
        config: How its patches were extracted.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    first = next(iter(sets.values()))
    content = {
        "set": name,
        "patches": _settings(config),
        "classes": first.classes,
        "notes": first.notes,
        "mpp": first.mpp,
        "labels": {bag.slide_id: bag.label for bag in first.bags},
        "size_level0_px": first.bags[0].size_level0_px,
        "cases": {split: {bag.slide_id: bag.case_id for bag in one.bags} for split, one in sets.items()},
    }
    with write_h5(path) as file:
        file.attrs[_CONTENT] = json.dumps(content)
        for bag in first.bags:
            group = file.create_group(bag.slide_id)
            group["coords"] = bag.coords
            group["webp"] = np.frombuffer(_compressed(bag.instances), np.uint8)
            if bag.slide_id in first.truth:
                group["truth"] = first.truth[bag.slide_id]


def read_packed(path: Path, *, name: str, split: str, config: PatchConfig) -> PublishedSet:
    """The set that `write_packed` wrote, with patches equalised as the config says.

    Raises:
        FeatureFileError: If the file is not such a set.
        ConfigError: If it is another set, or its patches were extracted in another way.
    """
    with open_h5(path) as file:
        if _CONTENT not in file.attrs:
            raise FeatureFileError(f"{path}: not a packed set; expected a file of write_packed")
        content: dict[str, Any] = json.loads(str(file.attrs[_CONTENT]))
        found, wanted = (content["set"], content["patches"]), (name, _settings(config))
        if found != wanted:
            raise ConfigError(
                f"{path}: holds {found[0]} with patches {found[1]}; expected {wanted[0]} with patches "
                f"{wanted[1]}; pack it again with these settings"
            )
        bags: list[Bag] = []
        truth: dict[str, Truth] = {}
        for slide_id, case_id in content["cases"][split].items():
            coords = values_of(file, f"{slide_id}/coords")
            patches = _expanded(values_of(file, f"{slide_id}/webp").tobytes(), size_px=config.size_px)
            pixels = equalise(patches[: len(coords)], mode=config.equalise)
            label, size = content["labels"][slide_id], content["size_level0_px"]
            bags.append(Bag(slide_id, case_id, label, pixels, coords, size))
            if f"{slide_id}/truth" in file:
                truth[slide_id] = values_of(file, f"{slide_id}/truth")
    negative, positive = content["classes"]
    return PublishedSet(bags, (negative, positive), tuple(content["notes"]), {}, content["mpp"], truth)


def _settings(config: PatchConfig) -> str:
    """How patches were extracted; equalisation comes later."""
    return config.model_copy(update={"equalise": "none"}).model_dump_json()


def _compressed(patches: UInt8[np.ndarray, "patch size size 3"]) -> bytes:
    """The patches side by side in one square picture."""
    from PIL import Image

    n, size = patches.shape[:2]
    edge = math.ceil(math.sqrt(n))
    filled = np.zeros((edge * edge, *patches.shape[1:]), np.uint8)
    filled[:n] = patches
    picture = filled.reshape(edge, edge, size, size, 3).swapaxes(1, 2).reshape(edge * size, edge * size, 3)
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "WEBP", lossless=True, quality=100, method=4)
    return out.getvalue()


def _expanded(content: bytes, *, size_px: int) -> UInt8[np.ndarray, "patch size size 3"]:
    from PIL import Image

    picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    edge = len(picture) // size_px
    return picture.reshape(edge, size_px, edge, size_px, 3).swapaxes(1, 2).reshape(-1, size_px, size_px, 3)
