"""The attention of held-out slides on disk: one HDF5 file for each trial."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from h5py import Group

from hardmil.bags.bag import Bag
from hardmil.bags.h5_fields import attributes_of, group_of, values_of
from hardmil.files.h5 import open_h5, write_h5
from hardmil.mil.bag_score import BagScore

CLASSES = "classes"
"""Attribute of a slide: the names of the classes of its branches."""


def write_attention(
    path: Path, bags: Sequence[Bag], *, scores: Sequence[BagScore], class_names: Sequence[str] = ()
) -> None:
    """Write `attention_scores`, `coords` and any `contributions` of each bag, in one group for each slide_id.

    Contributions and the attribute `bias` sum to the logit of `bag_score`. With more than two classes, these
    are of the class that the bag is called; `attention_by_class`, `instance_logits_by_class` and
    `contributions_by_class` have a row for each branch, whose names are in the attribute `classes`.

    Args:
        path: The file.
        bags: The bags.
        scores: The output for each.
        class_names: The class of each branch, with more than two classes.
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
            if score.branches:
                _write_branches(group, score, class_names=class_names)


def _write_branches(group: Group, score: BagScore, *, class_names: Sequence[str]) -> None:
    group.attrs[CLASSES] = list(class_names)
    group.attrs["class_scores"] = score.class_scores
    group.attrs["bag_score_by_class"] = [one.bag_score for one in score.branches]
    group.attrs["bias_by_class"] = [one.bias for one in score.branches]
    group["attention_by_class"] = np.stack([one.attention for one in score.branches])
    group["instance_logits_by_class"] = np.stack([one.instance_logit for one in score.branches])
    contributions = [one.contribution for one in score.branches if one.contribution is not None]
    if contributions:
        group["contributions_by_class"] = np.stack(contributions)


def read_attention(path: Path, *, slide_id: str) -> tuple[np.ndarray, np.ndarray]:
    """`attention_scores` and `coords` of one slide.

    Raises:
        FeatureFileError: If the file is damaged, or has no such slide.
    """
    with open_h5(path) as file:
        names = (f"{slide_id}/attention_scores", f"{slide_id}/coords")
        attention, coords = (values_of(file, name) for name in names)
        return attention, coords


def read_score(path: Path, *, slide_id: str) -> BagScore:
    """The output of a model for one slide; instance logits are 0 in old files, which lack them.

    Raises:
        FeatureFileError: If the file is damaged, or has no such slide.
    """
    with open_h5(path) as file:

        def kept(name: str) -> np.ndarray | None:
            name = f"{slide_id}/{name}"
            return values_of(file, name) if name in file else None

        attention, _ = read_attention(path, slide_id=slide_id)
        logits = kept("instance_logits")
        attributes = attributes_of(group_of(file, slide_id))
        return BagScore(
            bag_score=float(np.asarray(attributes["bag_score"])),
            attention=attention,
            instance_logit=np.zeros_like(attention) if logits is None else logits,
            contribution=kept("contributions"),
            bias=float(np.asarray(attributes.get("bias", 0.0))),
        )


def read_branch(path: Path, *, slide_id: str, class_name: str) -> BagScore:
    """The output of the branch of a class for one slide, with more than two classes.

    Raises:
        FeatureFileError: If the file is damaged, or has no such slide or class.
    """
    with open_h5(path) as file:
        attributes = attributes_of(group_of(file, slide_id))
        row = [str(name) for name in np.asarray(attributes[CLASSES])].index(class_name)

        def of_branch(name: str) -> np.ndarray:
            return values_of(file, f"{slide_id}/{name}_by_class")[row]

        return BagScore(
            bag_score=float(np.asarray(attributes["bag_score_by_class"])[row]),
            attention=of_branch("attention"),
            instance_logit=of_branch("instance_logits"),
            contribution=of_branch("contributions") if f"{slide_id}/contributions_by_class" in file else None,
            bias=float(np.asarray(attributes["bias_by_class"])[row]),
        )
