"""Every knob, with its unit, default, reason and source. Frozen; knows no torch.

A knob that is `None` here takes the default of the kind of bag it meets (`resolve_config`), so that a
report names a value for every one of them. "Paper" is Li et al., MICCAI 2019.
"""

import math
import re
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from hardmil.config.known_encoders import known_encoder
from hardmil.config.patches import PatchConfig as PatchConfig
from hardmil.config.patches import Section as Section
from hardmil.config.patches import TissueConfig as TissueConfig
from hardmil.config.patches import fingerprint as fingerprint

BagKind = Literal["pixels", "features"]
PIXELS = "pixels"
"""What `encode` says where no encoder is wanted."""
PoolingKind = Literal[
    "adaptive-attention", "attention", "gated-attention", "mean", "max", "noisy-and", "quantile"
]
MiningUse = Literal["none", "sb", "mb", "fmb", "inject", "weigh"]
CalibrationMethod = Literal["temperature", "isotonic", "none"]
Threshold = float | str


def wanted_sensitivity(threshold: Threshold) -> float | None:
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


class Wanted(NamedTuple):
    """What a threshold is for: a share of the positives, of the negatives at most, or the best of both."""

    kind: Literal["sensitivity", "fpr", "youden"]
    share: float


def wanted_operating_point(text: str) -> Wanted:
    """("sensitivity", 0.95) for "sensitivity=0.95", the same of "fpr=0.05"; ("youden", nan) for "youden".

    Raises:
        ValueError: If it is none of these, or no share.
    """
    if text == "youden":
        return Wanted("youden", math.nan)
    kind, _, number = text.partition("=")
    try:
        share = float(number)
    except ValueError:
        share = math.nan
    if kind == "sensitivity" and 0 < share <= 1:
        return Wanted("sensitivity", share)
    if kind == "fpr" and 0 <= share < 1:
        return Wanted("fpr", share)
    raise ValueError(f'an operating point is "sensitivity=0.95", "fpr=0.05" or "youden", not {text!r}')


class PoolingConfig(Section):
    """From the instances of a bag to one vector."""

    kind: PoolingKind = "adaptive-attention"
    """adaptive-attention: paper, Eq. 1, 2; attention, gated-attention: Ilse et al. 2018; mean, max: of the
    instance logits; noisy-and: Kraus et al. 2016; quantile: Couture et al. 2018. An arm's base sets it."""
    lam: float = Field(default=2.0, ge=0)
    """Weight of the pseudo-negative instances in Eq. 2 (lambda); 1 turns Eq. 2 off. Paper: 2."""
    adaptive_at_prediction: bool = True
    """Whether Eq. 2 is also used when predicting. The paper does not say; off, training and use differ."""
    attention_dim: int | None = Field(default=None, ge=1)
    """Width of the attention layer (L). null: 128 for pixels (Ilse et al. 2018), 64 for features."""


class NetworkConfig(Section):
    """From an instance to its embedding."""

    embedding_dim: int | None = Field(default=None, ge=1)
    """Length of an instance's embedding (M). null: 512 for pixels (Ilse et al. 2018), 128 for features."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Share of the embedding dropped in training. null: 0.5 for pixels, 0.25 for features."""


class TrainingConfig(Section):
    """The loop."""

    epochs: int | None = Field(default=None, ge=1)
    """Passes over the training bags. null: 120 for pixels (paper, colon), 30 for features."""
    lr: float | None = Field(default=None, gt=0)
    """Adam's step. null: 5e-5 for pixels (paper, colon), 3e-4 for features."""
    weight_decay: float | None = Field(default=None, ge=0)
    """L2 in Adam (not AdamW). null: 5e-4 for pixels (paper, colon), 1e-3 for features."""
    bags_per_step: int = Field(default=1, ge=1)
    """Bags of one gradient step."""
    select: Literal["train-loss", "validation", "last"] = "train-loss"
    """The epoch kept: lowest training loss (paper: "lowest loss"), lowest on held-out cases, or last."""
    validation_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the training cases held out when select is validation."""
    balance: Literal["none", "loss", "sampler"] = "none"
    """Against unequal classes: weigh the loss, draw the rarer class more often, or nothing."""
    max_instances: int = Field(default=10_000, ge=1)
    """Largest bag in a training step; a larger one gives a random subset. Prediction uses all."""
    augment: bool = True
    """Random flips and quarter turns of each patch (paper). Pixels only."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the patch network; auto: bfloat16 where the device is fast at it. Attention is float32."""


class InstanceLossConfig(Section):
    """Every instance of a negative bag is negative: beta * mean softplus(instance_logit). Ours."""

    beta: float = Field(default=0.0, ge=0)
    """Weight of the term; 0 turns it off, `+instance` in an arm's name sets 0.5."""
    hardest: float = Field(default=1.0, gt=0, le=1)
    """Share of a negative bag that enters: its instances of highest instance logit."""


class VerdictLossConfig(Section):
    """A patch that a person judged is what they said: rho * mean BCE(instance_logit, verdict). Ours."""

    rho: float = Field(default=1.0, ge=0)
    """Weight of the term; without verdicts it is nothing."""


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
        wanted_sensitivity(value)
        return value


class FisherConfig(Section):
    """The arm sdr-svm: Fisher vectors of local descriptors, and a linear SVM. Song et al. 2017, in part."""

    radii: tuple[Annotated[float, Field(gt=0, le=0.45)], ...] = Field(default=(0.25, 0.44), min_length=1)
    """Radii of the DAISY descriptors, as shares of a patch's edge: a nucleus, and most of it. Ours."""
    step: float = Field(default=0.125, gt=0, le=1)
    """Distance of neighbouring descriptors, as a share of the patch's edge. Ours; 16 + 1 in one of 32 px."""
    n_dims: int = Field(default=64, ge=1)
    """Dimensions a descriptor keeps (PCA), no more than it has. Perronnin et al. 2010: 64."""
    n_modes: int = Field(default=32, ge=1)
    """Gaussians of the mixture, fewer where descriptors are few. Perronnin et al.: 256, of more images."""
    max_descriptors: int = Field(default=50_000, ge=100)
    """Descriptors that PCA and mixture are fitted on, an equal share of each training bag; bounds time."""
    n_reduced: int = Field(default=8, ge=1)
    """Dimensions a Fisher vector is reduced to (partial least squares, for Song et al.'s own step)."""
    svm_c: float = Field(default=1.0, gt=0)
    """Cost of the linear SVM: larger fits the training bags more closely. 1 is usual for scaled input."""


class EvaluationConfig(Section):
    """Which arms are compared, on which folds."""

    arms: tuple[str, ...] = Field(
        default=("ours", "ours+fmb-oof", "ours+fmb-oof@random", "ours+instance"), min_length=1
    )
    """Arms, base[+use[-option]...][@random]; all run on the same folds with the same seeds. The control of an
    arm that mines, @random, is run even where it is not named."""
    folds: int = Field(default=5, ge=2)
    """K of K-fold cross-validation, stratified by label, never splitting a case."""
    repeats: int = Field(default=1, ge=1)
    """Times the folds are drawn anew."""
    splits: str | None = None
    """Folder of CLAM's splits_0.csv ... (columns train, val, test), or a table with columns slide_id, fold_0,
    fold_1 ... of train, val, test, to use instead of drawn folds."""
    operating_point: str = "sensitivity=0.90"
    """What the threshold of `fpr_op`, and of the bundle that `train` leaves, is for: "sensitivity=0.90",
    "fpr=0.05" or "youden"; on out-of-fold scores of the whole arm in the training fold."""
    operating_folds: int = Field(default=4, ge=0)
    """Folds of those scores, each a training of the whole arm; equal to mining.inner_folds they share its
    models. 0: no operating point and no calibration, and no wait for them."""
    calibration: CalibrationMethod = "temperature"
    """What turns a score into a probability, on the same scores: one number, or a step curve (isotonic)."""

    @field_validator("operating_point")
    @classmethod
    def _is_operating_point(cls, value: str) -> str:
        wanted_operating_point(value)
        return value


_FOR_AN_ENCODER = {"size_px": 224, "equalise": "none"}


class StudyConfig(Section):
    """All of a study. Paths are relative to the folder of `study.yaml`."""

    slides: str = "slides.csv"
    """Table of slides: slide_id, case_id, label, path, and mpp where the file does not say."""
    features: str | None = None
    """Folder of TRIDENT, CLAM or STAMP files, .h5 or .pt, one a slide; null: patches are cut from slides."""
    positive: Annotated[str, Field(coerce_numbers_to_str=True)] | None = None
    """The label that counts as positive. null: the last of the labels in sorted order."""
    encode: str = PIXELS
    """What becomes of a patch: pixels (the paper's network learns from them end to end), or its embedding by
    an encoder: efficientnet-lite0 (hardmil[efficientnet]); uni, virchow2 and others, or timm:NAME
    (hardmil[timm]); a file .onnx, .pt, .pt2; or "module:callable" of your own. See docs/encoders.md."""
    encode_px: int | None = Field(default=None, ge=16, le=1024)
    """Edge that a patch is resized to before the encoder sees it; null: the one it was trained on, where that
    is known, or as it was cut."""
    arm: str = "ours+instance"
    """The arm that `train` makes a bundle of, such as ours+fmb-oof. See docs/decisions for the default."""
    seed: int = Field(default=0, ge=0)
    """Seed of folds, weights and draws: same seed, same numbers."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    patches: PatchConfig = PatchConfig()
    network: NetworkConfig = NetworkConfig()
    pooling: PoolingConfig = PoolingConfig()
    training: TrainingConfig = TrainingConfig()
    instance_loss: InstanceLossConfig = InstanceLossConfig()
    verdict_loss: VerdictLossConfig = VerdictLossConfig()
    mining: MiningConfig = MiningConfig()
    fisher: FisherConfig = FisherConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="before")
    @classmethod
    def _patches_for_an_encoder(cls, content: object) -> object:
        """Size and colours that an encoder expects, where the study names one and leaves them out."""
        if not isinstance(content, dict) or content.get("encode", PIXELS) == PIXELS:
            return content
        patches = content.get("patches") or {}
        if not isinstance(patches, dict):
            return content
        known = known_encoder(str(content["encode"]))
        trained = {"size_px": known.input_px, "um_per_px": known.um_per_px} if known else {}
        return {**content, "patches": {**_FOR_AN_ENCODER, **trained, **patches}}


class CutConfig(Section):
    """What an instance is: how its patch is cut, and what becomes of it."""

    patches: PatchConfig = PatchConfig()
    encode: str = PIXELS
    encode_px: int | None = None


class ModelConfig(Section):
    """What a training run depends on, besides its bags and its seed."""

    network: NetworkConfig = NetworkConfig()
    pooling: PoolingConfig = PoolingConfig()
    training: TrainingConfig = TrainingConfig()
    instance_loss: InstanceLossConfig = InstanceLossConfig()
    verdict_loss: VerdictLossConfig = VerdictLossConfig()


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


def cut_config(study: StudyConfig) -> CutConfig:
    """The part of a study that the instances of its bags depend on."""
    return CutConfig(patches=study.patches, encode=study.encode, encode_px=study.encode_px)


def model_config(study: StudyConfig) -> ModelConfig:
    """The part of a study that one training run depends on."""
    return ModelConfig(**{name: getattr(study, name) for name in ModelConfig.model_fields})


def resolve_config(config: ModelConfig, *, kind: BagKind) -> ModelConfig:
    """The same config with the defaults of this kind of bag where a knob is None."""
    changed: dict[str, object] = {}
    for section_name, defaults in _BY_KIND[kind].items():
        section = getattr(config, section_name)
        missing = {name: value for name, value in defaults.items() if getattr(section, name) is None}
        changed[section_name] = section.model_copy(update=missing)
    return config.model_copy(update=changed)
