"""All settings of a study.

A setting that is None takes the default for the kind of bag (`resolve_config`), so that a report has a value
for every setting. "Paper" is Li et al., MICCAI 2019.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from hardmil.config.evaluation import AutoConfig, EvaluationConfig, FisherConfig, calibration_fault
from hardmil.config.known_encoders import known_encoder
from hardmil.config.mining import MiningConfig
from hardmil.config.model import (
    BagMixConfig,
    InstanceLossConfig,
    ModelConfig,
    NetworkConfig,
    PoolingConfig,
    RankLossConfig,
    TeacherConfig,
    TrainingConfig,
    VerdictLossConfig,
)
from hardmil.config.patches import IMAGE_WITH_ENCODER, PatchConfig
from hardmil.config.section import ADDED_LATER, Section
from hardmil.config.task import TWO_CLASSES, TaskConfig, check_classes

PIXELS = "pixels"
"""Value of `encode` for no encoder."""
Label = Annotated[str, Field(coerce_numbers_to_str=True, min_length=1)]


_FOR_AN_ENCODER = {"size_px": 224}
LITE0 = "efficientnet-lite0"
FARTHEST = 2
"""How many times smaller or larger than its training patches an encoder may see patches, if nothing else is
set."""


class StudyConfig(Section):
    """A study. Paths are relative to the folder of `study.yaml`."""

    about: str = Field(default="", json_schema_extra=ADDED_LATER)
    """What readers of the reports of this study must know, in a few sentences. Shown at the top of each."""
    slides: str = "slides.csv"
    """Table of slides: slide_id, case_id, label, path, and mpp for files without it."""
    features: str | None = None
    """Folder with feature files of TRIDENT, CLAM or STAMP (.h5, .pt), or AnnData and zarr (.h5ad, .zarr), one
    for each slide. null: patches are extracted from the slides."""
    positive: Label | None = None
    """The positive label. null: the other one, where a label is a usual word for negative, such as normal,
    benign, control, no or 0; otherwise it must be set."""
    classes: tuple[Label, ...] | None = Field(default=None, json_schema_extra=ADDED_LATER)
    """The labels in their order, needed where the table has more than two; of two, the second is positive.
    null: two labels."""
    negative: Label | None = Field(default=None, json_schema_extra=ADDED_LATER)
    """The one of more than two classes in whose slides nothing of another class can be, such as normal. null:
    there is none."""
    ordinal: bool = Field(default=False, json_schema_extra=ADDED_LATER)
    """Whether the classes are ordered, each higher than the one before, such as benign, low, high. A slide is
    named by the highest class in it."""
    multi_label: bool = Field(default=False, json_schema_extra=ADDED_LATER)
    """Whether a slide may have several of the classes, or none. The table of slides then has a column for
    each class, with 1 or 0, instead of label."""
    cases: Literal["column", "slide"] = Field(default="column", json_schema_extra=ADDED_LATER)
    """What names the case of a slide. column: case_id (or case, patient, patient_id) in the table of slides,
    which must exist. slide: each slide is its own case; only right if no patient has two slides."""
    encode: str = PIXELS
    """What an instance is: the pixels of a patch (the paper's network learns from them end to end), or its
    embedding by an encoder: efficientnet-lite0 (hardmil[efficientnet]); uni, virchow2 and others, or
    timm:NAME (hardmil[timm]); stain-statistics, quick and weak; a file .onnx, .pt, .pt2; or
    "module:callable" of your own. See docs/encoders.md."""
    encode_px: int | None = Field(default=None, ge=16, le=1024)
    """Edge that a patch is resized to for the encoder, in pixels. null: the size the encoder was trained
    on, if known; otherwise patches are not resized."""
    arm: str = "auto"
    """The arm that `train` trains: auto, the best of several by out-of-fold scores, or one by name, such as
    ours+fmb-oof. auto trains about three times as long as ours. See docs/decisions for the default."""
    seed: int = Field(default=0, ge=0)
    """Seed of folds, weights and random draws: same seed, same numbers."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    patches: PatchConfig = PatchConfig()
    network: NetworkConfig = NetworkConfig()
    pooling: PoolingConfig = PoolingConfig()
    training: TrainingConfig = TrainingConfig()
    instance_loss: InstanceLossConfig = InstanceLossConfig()
    verdict_loss: VerdictLossConfig = VerdictLossConfig()
    rank_loss: RankLossConfig = Field(default=RankLossConfig(), json_schema_extra=ADDED_LATER)
    bag_mix: BagMixConfig = Field(default=BagMixConfig(), json_schema_extra=ADDED_LATER)
    teacher: TeacherConfig = Field(default=TeacherConfig(), json_schema_extra=ADDED_LATER)
    mining: MiningConfig = MiningConfig()
    auto: AutoConfig = AutoConfig()
    fisher: FisherConfig = FisherConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def task(self) -> TaskConfig:
        """The classes as a network tells them apart."""
        if self.classes is None or (len(self.classes) == 2 and not self.multi_label):
            return TWO_CLASSES
        return TaskConfig(
            names=self.classes,
            negative=self.negative,
            ordinal=self.ordinal,
            multi_label=self.multi_label,
        )

    @field_validator("positive", "negative", "classes", mode="before")
    @classmethod
    def _is_text(cls, value: object) -> object:
        if any(isinstance(one, bool) for one in (value if isinstance(value, list | tuple) else [value])):
            raise ValueError('YAML reads this as true or false; write the label in quotes, such as "FALSE"')
        return value

    @model_validator(mode="after")
    def _classes_fit(self) -> "StudyConfig":
        names = self.classes or ()
        last = names[-1] if names else None
        if self.classes is not None and len(names) < 2:
            raise ValueError(f"classes: {', '.join(names)}; expected two or more labels")
        if self.multi_label and self.positive is not None:
            raise ValueError("multi_label excludes positive: each class is a question of its own; remove it")
        if not self.multi_label and len(names) < 3 and (self.negative is not None or self.ordinal):
            raise ValueError("negative and ordinal are for more than two classes; list them in `classes`")
        if self.positive is not None and names and (len(names) > 2 or self.positive != last):
            raise ValueError("positive and classes disagree; of two classes, the last is positive; keep one")
        check_classes(names, negative=self.negative, ordinal=self.ordinal, multi_label=self.multi_label)
        if (wrong := calibration_fault(self.evaluation.calibration, task=self.task)) is not None:
            raise ValueError(wrong)
        return self

    @model_validator(mode="before")
    @classmethod
    def _patches_for_an_encoder(cls, content: object) -> object:
        """Patch size and resolution that the encoder expects, where the study does not set them."""
        if not isinstance(content, dict) or content.get("encode", PIXELS) == PIXELS:
            return content
        patches = content.get("patches") or {}
        if not isinstance(patches, dict):
            return content
        known = known_encoder(str(content["encode"]))
        trained = {"size_px": known.input_px, "um_per_px": known.um_per_px} if known else {}
        return {**content, "patches": {**_FOR_AN_ENCODER, **trained, **patches}}

    @model_validator(mode="after")
    def _patches_suit_the_encoder(self) -> "StudyConfig":
        known = known_encoder(self.encode)
        trained = known.input_px if known else 224 if self.encode == LITE0 else None
        if trained is None or self.encode_px is not None:
            return self
        if not trained <= self.patches.size_px * FARTHEST <= trained * FARTHEST**2:
            raise ValueError(
                f"patches.size_px is {self.patches.size_px}, but {self.encode} was trained on {trained} px; "
                "remove size_px, which then suits the encoder; or, if it is meant, set encode_px to the edge "
                "that patches are resized to"
            )
        return self

    @model_validator(mode="after")
    def _encoder_sees_blocks(self) -> "StudyConfig":
        if self.encode != PIXELS and self.patches.equalise == "image":
            raise ValueError(IMAGE_WITH_ENCODER)
        return self


class InstanceConfig(Section):
    """What an instance is: how its patch is extracted, and by what it is encoded."""

    patches: PatchConfig = PatchConfig()
    encode: str = PIXELS
    encode_px: int | None = None


def instance_config(study: StudyConfig) -> InstanceConfig:
    """The settings that the instances of a study depend on."""
    return InstanceConfig(patches=study.patches, encode=study.encode, encode_px=study.encode_px)


def model_config(study: StudyConfig) -> ModelConfig:
    """The settings that a training run depends on."""
    return ModelConfig(**{name: getattr(study, name) for name in ModelConfig.model_fields})
