"""The attention of held-out slides on disk: one HDF5 file for each trial."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.files.h5 import open_h5, write_h5
from hardmil.mil.inference import BagScore


def write_attention(path: Path, bags: Sequence[Bag], *, scores: Sequence[BagScore]) -> None:
    """Write `attention_scores`, `coords` and any `contributions` of each bag, in one group for each slide_id.

    Contributions and the attribute `bias` sum to the logit of `bag_score`.
    """
    with write_h5(path) as file:
        for bag, score in zip(bags, scores, strict=True):
            group = file.create_group(bag.slide_id)
            group["attention_scores"] = score.attention
            group["coords"] = bag.coords
            group["instance_logits"] = score.instance_logit
            if score.contribution is not None:
                group["contributions"] = score.contribution
                group.attrs["bias"] = score.bias
            group.attrs["bag_score"] = score.bag_score
            group.attrs["patch_size_level0"] = bag.size_level0_px


def read_attention(path: Path, *, slide_id: str) -> tuple[np.ndarray, np.ndarray]:
    """`attention_scores` and `coords` of one slide.

    Raises:
        FeatureFileError: If the file is damaged, or has no such slide.
    """
    with open_h5(path) as file:
        names = (f"{slide_id}/attention_scores", f"{slide_id}/coords")
        attention, coords = (np.asarray(file[name]) for name in names)
        return attention, coords


def read_score(path: Path, *, slide_id: str) -> BagScore:
    """The output of a model for one slide; instance logits are 0 in old files, which lack them.

    Raises:
        FeatureFileError: If the file is damaged, or has no such slide.
    """
    with open_h5(path) as file:

        def kept(name: str) -> np.ndarray | None:
            name = f"{slide_id}/{name}"
            return np.asarray(file[name]) if name in file else None

        attention, _ = read_attention(path, slide_id=slide_id)
        logits = kept("instance_logits")
        attributes = dict(file[slide_id].attrs)
        return BagScore(
            bag_score=float(np.asarray(attributes["bag_score"])),
            attention=attention,
            instance_logit=np.zeros_like(attention) if logits is None else logits,
            contribution=kept("contributions"),
            bias=float(np.asarray(attributes.get("bias", 0.0))),
        )
