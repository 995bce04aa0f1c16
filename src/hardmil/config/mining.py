"""Settings of hard negative mining and of verdicts."""

import re
from typing import Literal

from pydantic import Field, field_validator

from hardmil.config.section import Section

MiningUse = Literal["none", "sb", "mb", "fmb", "inject", "weigh"]

Threshold = float | str


def parse_sensitivity(threshold: Threshold) -> float | None:
    """0.95 for "sensitivity=0.95", None for a plain score.

    Raises:
        ValueError: If the threshold is neither a score in [0, 1] nor "sensitivity=" and a share in (0, 1].
    """
    found = re.fullmatch(r"sensitivity=(\d*\.?\d+)", threshold) if isinstance(threshold, str) else None
    share = float(found.group(1)) if found else None
    if share is not None and 0 < share <= 1:
        return share
    if isinstance(threshold, float | int) and 0 <= threshold <= 1:
        return None
    raise ValueError(f'a threshold is a score from 0 to 1 or "sensitivity=0.95", not {threshold!r}')


class MiningConfig(Section):
    """Hard negatives: where they come from and what is built of them."""

    use: MiningUse = "none"
    """Hard bags: one of all (sb), several at random (mb), by cluster (fmb). Ours: put into training bags
    whose labels stay true (inject), or weigh more in the instance loss (weigh). An arm's `+use` sets it."""
    draw: Literal["hard", "random"] = "hard"
    """random: the control, as many instances at random from negative bags. `@random` sets it."""
    source: Literal["train", "out-of-fold"] = "train"
    """Who names false positives: the trained model (paper), or one that never saw the bag (`-oof`)."""
    inner_folds: int = Field(default=4, ge=2)
    """Folds by case inside the training bags, for source out-of-fold."""
    threshold: Threshold = 0.5
    """Score above which a negative bag is a false positive; "sensitivity=0.95": the one that keeps 95%."""
    n_sigma: float = 1.0
    """A hard instance has attention >= mean + n_sigma * std of its bag. Paper, Eq. 3: 1."""
    n_bags: int | None = Field(default=None, ge=1)
    """Hard bags of mb and fmb. null: as many as false-positive bags."""
    replacement: bool = True
    """Whether a hard bag may hold an instance twice; without, a bag is no larger than the pool."""
    redraw: Literal["once", "epoch"] = "once"
    """Whether the hard bags are drawn once or anew each epoch."""
    n_clusters: int = Field(default=4, ge=1)
    """K-means clusters of fmb; no more than there are hard instances."""
    cluster_weights: Literal["size", "equal", "stratified"] = "size"
    """Chance of a cluster: by size (paper; same as mb), equal, or equal quotas (stratified)."""
    encoder: str = "base"
    """What embeds the pool for K-means: base, the trained base model without its last layer, or an encoder
    such as efficientnet-lite0, for pixels; with it, bags of features are clustered as they are."""
    retrain: Literal["scratch", "continue"] = "scratch"
    """Whether the second training starts anew with the same seed, or from the base model."""
    rounds: int = Field(default=1, ge=1)
    """Times to mine and retrain. Stops early when nothing new is mined or out-of-fold scores stop gaining."""
    inject_into: Literal["both", "positive", "negative"] = "both"
    """Training bags that mined instances are put into. An arm's `+inject-positive` sets it."""
    inject_chance: float = Field(default=0.5, gt=0, le=1)
    """Chance of a bag, each step, to be given mined instances."""
    inject_share: float = Field(default=0.25, gt=0, le=1)
    """How many, as a share of the bag's own."""
    inject_how: Literal["append", "replace"] = "append"
    """append keeps all of the bag; replace takes the place of some, which may be a positive bag's lesion."""
    named_weight: float = Field(default=5.0, ge=1)
    """Weight of a mined instance in the instance loss where use is weigh; any other counts 1."""
    verdicts: str | None = None
    """Table of what a person said of patches: slide_id, x, y, verdict (lesion, normal, artefact, unsure)."""
    verdict_budget: int | None = Field(default=None, ge=1)
    """Verdicts taken of each positive training bag; null: all there are. `+verdicts-10` sets it."""
    verdict_choice: Literal["attention", "random", "uncertainty", "spread"] = "attention"
    """Which: most attended, random, instance logit near 0 (uncertainty), one a K-means cluster (spread)."""

    @field_validator("threshold")
    @classmethod
    def _is_share(cls, value: Threshold) -> Threshold:
        parse_sensitivity(value)
        return value
