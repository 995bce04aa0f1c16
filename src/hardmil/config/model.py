"""Settings of the network, its pooling, its losses and its training."""

# The models are frozen, so a subclass may narrow a field; pyright cannot see that pydantic freezes them.
# pyright: reportIncompatibleVariableOverride=false, reportGeneralTypeIssues=false

from typing import Literal

from pydantic import Field

from hardmil.config.section import ADDED_LATER, Section
from hardmil.config.task import TWO_CLASSES, TaskConfig

BagKind = Literal["pixels", "features"]

PoolingKind = Literal[
    "adaptive-attention",
    "attention",
    "gated-attention",
    "linear-attention",
    "conjunctive",
    "mean",
    "max",
    "topk",
    "noisy-and",
    "quantile",
    "dsmil",
    "transmil",
    "clam-sb",
    "clam-mb",
    "dtfd",
]

BagScoring = Literal["bag", "top", "mean"]
AttentionOf = Literal["per-class", "shared"]

_BY_KIND: dict[BagKind, dict[str, dict[str, float]]] = {
    "pixels": {
        "network": {"embedding_dim": 512, "dropout": 0.5},
        "pooling": {"attention_dim": 128},
        "training": {"epochs": 120, "lr": 5e-5, "weight_decay": 5e-4},
    },
    "features": {
        "network": {"embedding_dim": 128, "dropout": 0.25},
        "pooling": {"attention_dim": 64},
        "training": {"epochs": 30, "lr": 3e-4, "weight_decay": 1e-3},
    },
}


class PoolingConfig(Section):
    """Pooling: from the instances of a bag to one vector."""

    kind: PoolingKind = "adaptive-attention"
    """adaptive-attention: paper, Eq. 1 and 2; attention, gated-attention: Ilse et al. 2018; linear-attention:
    Pappas and Popescu-Belis 2014; conjunctive: Early et al. 2024; mean, max, topk: of the instance logits;
    noisy-and: Kraus et al. 2016; quantile: Couture et al. 2018; dsmil: Li, Li and Eliceiri 2021; transmil:
    Shao et al. 2021; clam-sb, clam-mb: Lu et al. 2021; dtfd: Zhang et al. 2022. The base of an arm sets
    it."""
    lam: float = Field(default=2.0, ge=0)
    """Weight of the pseudo-negative instances in Eq. 2 (lambda); 1 turns Eq. 2 off. Paper: 2."""
    adaptive_at_prediction: bool = True
    """Whether Eq. 2 is also used for prediction. The paper does not say. If false, training and
    prediction differ."""
    score: BagScoring = Field(default="bag", json_schema_extra=ADDED_LATER)
    """How a trained network scores a bag: by its bag logit (bag), the mean of its highest instance logits
    (top), or of all of them (mean). Training does not depend on it. `-top5`, `-mean` after the base of an arm
    set it. Ours."""
    top_k: int = Field(default=5, ge=1, json_schema_extra=ADDED_LATER)
    """How many instance logits are averaged: by the score `top`, and in training by the kind topk."""
    mask_top: int = Field(default=0, ge=0, json_schema_extra=ADDED_LATER)
    """In each training step, a random part of this many most attended instances of a bag is left out; at most
    a quarter of the bag counts as most attended. 0: nothing is left out. `-masktop` after the base of an arm
    sets 10. ACMIL, Zhang et al. 2023. Poolings with attention only."""
    mask_share: float = Field(default=0.6, gt=0, le=1, json_schema_extra=ADDED_LATER)
    """Share of the most attended instances that is left out, where `mask_top` is above 0. ACMIL: 0.6."""
    smooth_steps: int = Field(default=0, ge=0, json_schema_extra=ADDED_LATER)
    """How often attention logits are averaged with those of adjacent patches, before the softmax. 0: never.
    `-smooth` after the base of an arm sets 4. Castro-Macias et al. 2024. Poolings with attention only; bags
    without coordinates have no adjacent patches."""
    smooth_alpha: float = Field(default=0.5, gt=0, lt=1, json_schema_extra=ADDED_LATER)
    """Weight of the adjacent patches in each step, where `smooth_steps` is above 0."""
    attention: AttentionOf = Field(default="per-class", json_schema_extra=ADDED_LATER)
    """With more than two classes: attention for each class, or the same for all. Lu et al. 2021 compare both
    (CLAM-MB, CLAM-SB)."""
    attention_dim: int | None = Field(default=None, ge=1)
    """Width of the attention layer (L). null: 128 for pixels (Ilse et al. 2018), 64 for features."""


class NetworkConfig(Section):
    """Network: from an instance to its embedding."""

    embedding_dim: int | None = Field(default=None, ge=1)
    """Length of an instance's embedding (M). null: 512 for pixels (Ilse et al. 2018), 128 for features."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout of the embedding. null: 0.5 for pixels, 0.25 for features."""
    clip: float | None = Field(default=None, gt=0, json_schema_extra=ADDED_LATER)
    """Features are cut off at this many standard deviations from their mean, as the instances of the training
    bags have them. null: they are not. A few extreme values no longer decide. Features only. Ours."""


class TrainingConfig(Section):
    """The training loop."""

    epochs: int | None = Field(default=None, ge=1)
    """Epochs. null: 120 for pixels (paper, colon), 30 for features."""
    lr: float | None = Field(default=None, gt=0)
    """Learning rate of Adam. null: 5e-5 for pixels (paper, colon), 3e-4 for features."""
    weight_decay: float | None = Field(default=None, ge=0)
    """L2 penalty in Adam (not AdamW). null: 5e-4 for pixels (paper, colon), 1e-3 for features."""
    bags_per_step: int = Field(default=1, ge=1)
    """Bags in one gradient step."""
    select: Literal["train-loss", "validation", "last"] = "train-loss"
    """Which epoch is kept: lowest training loss (paper: "lowest loss"), lowest loss on held-out cases, or
    last."""
    validation_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the training cases held out where select is validation."""
    balance: Literal["none", "loss", "sampler"] = "none"
    """For unequal classes: weight the loss, draw the rarer class more often, or do nothing."""
    bag_loss: float = Field(default=1.0, ge=0, json_schema_extra=ADDED_LATER)
    """Weight of the cross-entropy of bags. 0: the network learns from instance labels alone; the base em sets
    it."""
    n_networks: int = Field(default=1, ge=1, le=20, json_schema_extra=ADDED_LATER)
    """Networks trained with different seeds, whose outputs are averaged. `-seeds5` after the base of an arm
    sets 5."""
    max_instances: int = Field(default=10_000, ge=1)
    """Largest bag in a training step; of a larger one, a random subset is used. Prediction uses all
    instances."""
    augment: bool = True
    """Random flips and 90-degree rotations of each patch (paper). Pixels only."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the patch network. auto: bfloat16 where the device is fast at it. Attention is always float32."""


class InstanceLossConfig(Section):
    """Instance loss of negative bags, whose instances are all negative: beta * mean softplus(logit). Ours."""

    beta: float = Field(default=0.0, ge=0)
    """Weight of the loss. 0 turns it off; `+instance` in the name of an arm sets 0.5."""
    hardest: float = Field(default=1.0, gt=0, le=1)
    """Share of a negative bag that is used: its instances with the highest instance logits."""


class VerdictLossConfig(Section):
    """Verdict loss: a judged patch is what the person said, rho * mean BCE(instance_logit, verdict). Ours."""

    rho: float = Field(default=1.0, ge=0)
    """Weight of the loss; it has no effect without verdicts."""
    full_at: int | None = Field(default=None, ge=1, json_schema_extra=ADDED_LATER)
    """Judged patches from which on a bag counts in full; with fewer, it counts in proportion. null: 1, but 10
    with verdicts of `hardmil review`: most of those are normal, and a single one would weigh as much as the
    label of its bag."""


class RankLossConfig(Section):
    """Rank loss: highest instance logits of positive bags above those of negative bags. Cai et al. 2024."""

    weight: float = Field(default=0.0, ge=0)
    """Weight of the loss. 0 turns it off; `+rank` in the name of an arm sets 0.5."""
    margin: float = Field(default=1.0, ge=0)
    """By how much it should be above them, in units of the logit."""
    queue: int = Field(default=16, ge=1)
    """With how many of the last bags of the other label a bag is compared."""


class BagMixConfig(Section):
    """Training bags mixed from the pseudo-bags of two. PseMix, Liu et al. 2024."""

    n_parts: int = Field(default=0, ge=0)
    """Pseudo-bags of a bag. 0 turns mixing off; `-psemix` after the base of an arm sets 30 (PseMix)."""
    n_phenotypes: int = Field(default=8, ge=1)
    """K-means clusters of a bag, which are spread over all its pseudo-bags. PseMix: 8."""
    chance: float = Field(default=0.4, ge=0, le=1)
    """Probability that pseudo-bags of a second bag join; otherwise a part of one bag is used. PseMix: 0.4."""
    alpha: float = Field(default=1.0, gt=0)
    """The share of the first bag is drawn from Beta(alpha, alpha). PseMix: 1."""


class TeacherConfig(Section):
    """A teacher leaves out instances that are too easy. MHIM-MIL, Tang et al. 2023."""

    mask_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of a bag that is left out in each step, among the instances with the most attention of the
    teacher. 0: there is no teacher; `-mhim` after the base of an arm sets 0.05 (MHIM-MIL: 0.01 to 0.05)."""
    mask_choice: float = Field(default=0.5, gt=0, le=1)
    """They are this share, at random, of the instances with the most attention. MHIM-MIL: 0.5."""
    momentum: float = Field(default=0.99, ge=0, lt=1)
    """The teacher is the moving average of the network: momentum * teacher + (1 - momentum) * network."""
    consistency: float = Field(default=0.1, ge=0)
    """Weight of the loss that keeps the vector of a bag near that of the teacher. MHIM-MIL: 0.1."""
    temperature: float = Field(default=0.1, gt=0)
    """Of the teacher in this loss. MHIM-MIL: 0.1."""


class ModelConfig(Section):
    """What a training run depends on, apart from its bags and its seed."""

    network: NetworkConfig = NetworkConfig()
    pooling: PoolingConfig = PoolingConfig()
    training: TrainingConfig = TrainingConfig()
    instance_loss: InstanceLossConfig = InstanceLossConfig()
    verdict_loss: VerdictLossConfig = VerdictLossConfig()
    rank_loss: RankLossConfig = Field(default=RankLossConfig(), json_schema_extra=ADDED_LATER)
    bag_mix: BagMixConfig = Field(default=BagMixConfig(), json_schema_extra=ADDED_LATER)
    teacher: TeacherConfig = Field(default=TeacherConfig(), json_schema_extra=ADDED_LATER)
    task: TaskConfig = Field(default=TWO_CLASSES, json_schema_extra=ADDED_LATER)


class ResolvedPoolingConfig(PoolingConfig):
    """Settings of the pooling, none left open."""

    attention_dim: int


class ResolvedNetworkConfig(NetworkConfig):
    """Settings of the embedding network, none left open."""

    embedding_dim: int
    dropout: float


class ResolvedTrainingConfig(TrainingConfig):
    """Settings of the training loop, none left open."""

    epochs: int
    lr: float
    weight_decay: float


class ResolvedModelConfig(ModelConfig):
    """The settings of one training run, none left open."""

    network: ResolvedNetworkConfig
    pooling: ResolvedPoolingConfig
    training: ResolvedTrainingConfig


def resolve_config(config: ModelConfig, *, kind: BagKind) -> ResolvedModelConfig:
    """The same settings; those that are None take the default for this kind of bag."""
    content = config.model_dump()
    for section, defaults in _BY_KIND[kind].items():
        content[section] |= {
            name: value for name, value in defaults.items() if content[section][name] is None
        }
    return ResolvedModelConfig.model_validate(content)


def training_config(config: ResolvedModelConfig) -> ResolvedModelConfig:
    """The settings of one network, with the default for those that its training does not depend on.

    `top_k` is kept where the kind of pooling is topk: there the training depends on it.
    """
    names = ("score",) if config.pooling.kind == "topk" else ("score", "top_k")
    unused = {name: PoolingConfig.model_fields[name].default for name in names}
    changed = {
        "pooling": config.pooling.model_copy(update=unused),
        "training": config.training.model_copy(update={"n_networks": 1}),
    }
    return config.model_copy(update=changed)
