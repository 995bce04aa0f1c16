"""Settings of hard negative mining and of verdicts."""

import re
from typing import Literal

from pydantic import Field, field_validator

from hardmil.config.section import ADDED_LATER, Section

REVIEW = "review"
"""The value of `verdicts` that stands for the verdicts of `hardmil review`."""
MiningUse = Literal["none", "sb", "mb", "fmb", "inject", "weigh"]

Threshold = float | str


def parse_sensitivity(threshold: Threshold) -> float | None:
    """0.95 for "sensitivity=0.95"; None for a score.

    Raises:
        ValueError: If the threshold is neither a score in [0, 1] nor "sensitivity=" with a share in (0, 1].
    """
    found = re.fullmatch(r"sensitivity=(\d*\.?\d+)", threshold) if isinstance(threshold, str) else None
    share = float(found.group(1)) if found else None
    if share is not None and 0 < share <= 1:
        return share
    if isinstance(threshold, float | int) and 0 <= threshold <= 1:
        return None
    raise ValueError(f'a threshold is a score from 0 to 1 or "sensitivity=0.95", not {threshold!r}')


class SelfJudgedConfig(Section):
    """Labels of instances that a training makes itself, and then uses like verdicts."""

    how: Literal["none", "pseudo", "em"] = "none"
    """pseudo: instances of positive bags, judged by models that never saw the bag. em: all instances begin
    with the label of their bag, and the model of each round says which of a positive bag keep it (Hou et al.
    2016). `+pseudo` in the name of an arm, and the base em, set it."""
    rounds: int = Field(default=1, ge=1)
    """How often instances are judged. `+pseudo-rounds` sets 3, and so does the base em."""
    lesion_quantile: float = Field(default=0.95, gt=0, lt=1)
    """pseudo: an instance is a lesion above this quantile of the instance logits of negative bags."""
    lesion_share: float = Field(default=0.02, gt=0, le=1)
    """pseudo: at least this share of a positive bag is a lesion, its highest logits, and at least one."""
    normal_quantile: float = Field(default=0.5, gt=0, lt=1)
    """pseudo: an instance is normal below this quantile of the instance logits of negative bags."""
    bag_quantile: float = Field(default=0.5, ge=0, lt=1)
    """em: an instance keeps the label of its positive bag from this quantile of the bag on, or from
    class_quantile of all positive bags, whichever is lower."""
    class_quantile: float = Field(default=0.3, ge=0, lt=1)
    """em: see bag_quantile. Both are ours; the paper sets them on held-out data."""


VerdictChoice = Literal["attention", "random", "uncertainty", "spread", "disagreement"]


class MiningConfig(Section):
    """Hard negatives: where they come from and how they are used."""

    use: MiningUse = "none"
    """Hard bags: one bag of all (sb), several at random (mb), several by cluster (fmb). Ours: mined instances
    are put into training bags, whose labels stay correct (inject), or count more in the instance loss
    (weigh). `+use` in the name of an arm sets it."""
    draw: Literal["hard", "random"] = "hard"
    """random: the control, the same number of instances drawn at random from negative bags. `@random`
    sets it."""
    source: Literal["train", "out-of-fold"] = "train"
    """Which model finds false positives: the trained one (paper), or one that never saw the bag (`-oof`)."""
    inner_folds: int = Field(default=4, ge=2)
    """Folds by case within the training bags, where source is out-of-fold."""
    threshold: Threshold = 0.5
    """A negative bag with a higher score is a false positive. "sensitivity=0.95": the score that keeps 95%
    of the positive bags."""
    n_sigma: float = 1.0
    """A hard instance has attention >= mean + n_sigma * std of its bag. Paper, Eq. 3: 1."""
    n_bags: int | None = Field(default=None, ge=1)
    """Number of hard bags of mb and fmb. null: the number of false-positive bags."""
    replacement: bool = True
    """Whether a hard bag may contain an instance twice. If false, a bag is at most as large as the pool."""
    redraw: Literal["once", "epoch"] = "once"
    """Whether hard bags are drawn once, or again in each epoch."""
    n_clusters: int = Field(default=4, ge=1)
    """K-means clusters of fmb, at most the number of hard instances."""
    cluster_weights: Literal["size", "equal", "stratified"] = "size"
    """Probability of a cluster: by its size (paper; the same as mb), equal, or equal quotas (stratified)."""
    encoder: str = "base"
    """Embeds the pool for K-means: base, the trained base model without its last layer; or an encoder such as
    efficientnet-lite0, for pixels. With an encoder, bags of features are clustered as they are."""
    retrain: Literal["scratch", "continue"] = "scratch"
    """Whether the second training starts from scratch with the same seed, or from the base model."""
    rounds: int = Field(default=1, ge=1)
    """How often to mine and retrain. Stops early when nothing new is mined or out-of-fold scores stop
    improving."""
    inject_into: Literal["both", "positive", "negative"] = "both"
    """Training bags that mined instances are put into. `+inject-positive` in the name of an arm sets it."""
    inject_chance: float = Field(default=0.5, gt=0, le=1)
    """Probability that a bag gets mined instances, at each step."""
    inject_share: float = Field(default=0.25, gt=0, le=1)
    """How many it gets, as a share of its own instances."""
    inject_how: Literal["append", "replace"] = "append"
    """append keeps all instances of the bag; replace removes some, which may be the lesion of a positive
    bag."""
    named_weight: float = Field(default=5.0, ge=1)
    """Weight of a mined instance in the instance loss where use is weigh; all others have weight 1."""
    self_judged: SelfJudgedConfig = Field(default=SelfJudgedConfig(), json_schema_extra=ADDED_LATER)
    verdicts: str | None = None
    """A person's verdicts on patches: "review", those of `hardmil review`; or a table with columns slide_id,
    x, y, verdict (lesion, normal, artefact, unsure; with more than two classes also the name of a class)."""
    leave_out_doubted: bool = Field(default=False, json_schema_extra=ADDED_LATER)
    """Whether slides are left out whose label or quality a reviewer doubts, and negative slides in which a
    lesion was found. They are listed in any case."""
    verdict_budget: int | None = Field(default=None, ge=1)
    """Verdicts used from each positive training bag. null: all. `+verdicts-10` sets it."""
    verdict_choice: VerdictChoice = "attention"
    """Which patches: highest attention, random, instance logit nearest to 0 (uncertainty), one from each
    K-means cluster (spread), or those on whose logit five networks trained with different seeds disagree
    most (disagreement)."""

    @field_validator("threshold")
    @classmethod
    def _is_threshold(cls, value: Threshold) -> Threshold:
        parse_sensitivity(value)
        return value
