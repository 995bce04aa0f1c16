"""A trained model as a folder: weights in safetensors, and a JSON card with everything needed to use them."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_serializer,
    model_validator,
)

from hardmil.bags.bag import Bag
from hardmil.bags.provenance import Provenance
from hardmil.bundles.training_profile import TrainingProfile
from hardmil.config.model import BagKind
from hardmil.config.patches import PatchConfig
from hardmil.config.study import PIXELS, InstanceConfig
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.device import find_device
from hardmil.errors import BagError, BundleError, TableError
from hardmil.evaluation.choice import Choice
from hardmil.evaluation.results import HARD_NEGATIVES
from hardmil.files.atomic import read_json, visible, write_json
from hardmil.files.csv_table import columns_of, write_table
from hardmil.mil.bag_score import BagScore
from hardmil.mil.calibration import Calibration
from hardmil.mil.class_calibration import ClassCalibration
from hardmil.mil.inference import score_together
from hardmil.mil.network import BagClassifier
from hardmil.mil.operating import OperatingPoint
from hardmil.mil.weights import load_network, save_network
from hardmil.mining.hard_instances import HardInstance

FORMAT, FORMAT_OF_CLASSES = 2, 3
READABLE = (1, 2, 3)
"""Formats that can be read. 1: weights and tables are next to `bundle.json`. 3: more than two classes, which
earlier versions do not know."""
OUT_OF_FOLD = "out_of_fold_hard_negatives.csv"
"""Table in the bundle: what fooled the arm on slides that it had not seen."""
CONTENT = "content"
SLACK = 1e-6
"""How far a threshold may be outside of the scores, 0 to 1: it is put just below a score."""


class Card(BaseModel):
    """Everything in a bundle except its weights: `bundle.json`.

    `fingerprint` is the hash of the training: settings, bags and code. A slide with a score above `threshold`
    is called positive, `classes[1]`. `patches` is None for bundles trained on ready-made features; otherwise
    `encode` is how patches become instances. `encoder` and `patch` are what the training bags said about
    their encoder, with a hash of its weights, and about their patches; None if they said nothing. `operating`
    is what the threshold is set for, `calibration` turns a score into a probability; both are None if the
    study was too small to set them, and the threshold is then 0.5. `training_profile` describes the training
    slides; None in bundles of early versions. `choice` is how the arm `auto` came to `arm`; None if the study
    named the arm. `n_networks` is how many networks are averaged. `content` is the folder next to the card
    with weights and tables; empty in format 1.

    `task` tells more than two classes apart. There are then `class_operating` and `class_calibration` instead
    of `operating` and `calibration`: an operating point for each branch, none where the study was too small.
    A card of two classes is written without these three.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1, 2, 3] = FORMAT
    content: str = Field(default="", pattern=r"^[a-z0-9-]*$")
    hardmil: str
    fingerprint: str
    arm: str
    choice: Choice | None = None
    n_networks: int = Field(default=1, ge=1, le=1000)
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    task: TaskConfig = TWO_CLASSES
    threshold: float = Field(ge=-SLACK, le=1 + SLACK, allow_inf_nan=False)
    instances: BagKind
    patches: PatchConfig | None
    encode: str = PIXELS
    encode_px: int | None = None
    encoder: str | None = None
    patch: str | None = None
    operating: OperatingPoint | None = None
    calibration: Calibration | None = None
    class_operating: tuple[OperatingPoint, ...] = ()
    class_calibration: ClassCalibration | None = None
    training_profile: TrainingProfile | None = Field(
        default=None, validation_alias=AliasChoices("training_profile", "familiar")
    )
    training_slides: tuple[str, ...]
    n_false_positive_bags: int
    n_hard: int

    @model_validator(mode="after")
    def _classes_fit(self) -> "Card":
        if self.task.n_classes != len(self.classes) or self.task.names not in ((), self.classes):
            raise ValueError(
                f"classes {', '.join(self.classes)} do not fit task {', '.join(self.task.names)}"
            )
        if self.class_operating and len(self.class_operating) != self.task.n_branches:
            n = len(self.class_operating)
            raise ValueError(f"{n} operating points; expected {self.task.n_branches}")
        return self

    @model_serializer(mode="wrap")
    def _without_classes(self, dump: Callable[[object], dict[str, Any]]) -> dict[str, Any]:
        content = dump(self)
        for name in ("task", "class_operating", "class_calibration") if self.task.is_binary else ():
            content.pop(name, None)
        return content

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The threshold of each branch of more than two classes; empty where none was set."""
        return tuple(point.threshold.value for point in self.class_operating)

    @property
    def has_operating_point(self) -> bool:
        """Whether calls are at an operating point, and scores calibrated."""
        return self.operating is not None or bool(self.class_operating)

    @property
    def target(self) -> str:
        """What thresholds are set for; empty where none was set."""
        points = self.class_operating if self.operating is None else (self.operating,)
        return points[0].target if points else ""


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained model and how to use it; `folder` is where it is on disk.

    `others` are further networks, whose outputs are averaged with those of the first.
    """

    network: BagClassifier
    card: Card
    folder: Path | None = None
    others: tuple[BagClassifier, ...] = ()

    def score(self, bags: Sequence[Bag]) -> list[BagScore]:
        """Score, attention and instance logits of each bag.

        Raises:
            BagError: If one is NaN or infinite.
        """
        return score_together([self.network, *self.others], bags)

    def path(self, name: str) -> Path | None:
        """Where a file of the bundle is; None for one that is not on disk."""
        return None if self.folder is None else self.folder / self.card.content / name

    @property
    def device(self) -> str:
        """Where the network runs."""
        return str(next(self.network.parameters()).device)

    @property
    def instance_config(self) -> InstanceConfig | None:
        """How instances are made from a slide; None if they are read from feature files."""
        card = self.card
        if card.patches is None:
            return None
        return InstanceConfig(patches=card.patches, encode=card.encode, encode_px=card.encode_px)

    def check(self, bag: Bag) -> Bag:
        """The bag, if it fits the model.

        Raises:
            BagError: If its instances do not have the shape the model was trained on, or are known to be from
                another encoder or other patches.
        """
        shape = tuple(int(n) for n in bag.instances.shape[1:])
        if shape != self.network.instance_shape:
            raise BagError(
                f"slide {bag.slide_id}: instances of shape {shape}, the bundle was trained on "
                f"{self.network.instance_shape}; make its bag with the same encoder and patch size"
            )
        found = bag.provenance.difference(Provenance(self.card.encoder, self.card.patch))
        if found is not None:
            raise BagError(
                f"slide {bag.slide_id}: its bag has {found[0]}, the bundle was trained on {found[1]}; make "
                "its bag with the same encoder, weights and patches"
            )
        return bag


def save_bundle(
    folder: Path, bundle: Bundle, *, tables: Mapping[str, Sequence[HardInstance]] | None = None
) -> Card:
    """Write a bundle, which takes the place of an earlier one at once; its card.

    Weights and tables go to a new folder, which counts when `bundle.json` names it. Until then, and if the
    disk is full or the process is killed, the earlier bundle is complete.

    Args:
        folder: The folder of the bundle.
        bundle: The bundle.
        tables: Hard negatives, by the name of their file.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    task = bundle.card.task
    number = FORMAT if task.is_binary else FORMAT_OF_CLASSES
    card = bundle.card.model_copy(update={"format": number, "content": f"{CONTENT}-{uuid.uuid4().hex[:8]}"})
    content = folder / card.content
    try:
        for name, network in zip(_weights(card), [bundle.network, *bundle.others], strict=True):
            save_network(content / name, network)
        for name, rows in (tables or {}).items():
            write_table(content / name, rows, row=HardInstance, columns=mined_columns(task))
        write_json(folder / "bundle.json", card.model_dump(mode="json"))
    except BaseException:
        shutil.rmtree(content, ignore_errors=True)
        raise
    _remove_earlier(folder, content=content)
    return card


def mined_columns(task: TaskConfig) -> tuple[str, ...]:
    """Columns of a table of hard negatives: `hard_for` only with more than two classes."""
    return tuple(one for one in columns_of(HardInstance) if one != "hard_for" or not task.is_binary)


def _remove_earlier(folder: Path, *, content: Path) -> None:
    """Remove what earlier bundles left, also those of format 1 and of killed trainings."""
    for path in visible(folder.glob(f"{CONTENT}-*")):
        if path != content:
            shutil.rmtree(path, ignore_errors=True)
    for path in [*visible(folder.glob("model*.safetensors")), folder / HARD_NEGATIVES, folder / OUT_OF_FOLD]:
        path.unlink(missing_ok=True)


def read_card(folder: Path) -> Card:
    """The card of a bundle.

    Raises:
        BundleError: If there is no bundle in the folder, or one of another version.
    """
    path = folder / "bundle.json"
    if not path.is_file():
        raise BundleError(f"{folder}: no bundle.json in it; expected the folder that hardmil train writes")
    try:
        content = read_json(path)
    except TableError as error:
        raise BundleError(f"{path}: not the card of a bundle ({error.__cause__}); train it again") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found not in READABLE:
        raise BundleError(
            f"{path}: bundle format {found}, this hardmil reads formats 1 to 3; train it again, or use "
            "the version of hardmil that made it"
        )
    try:
        return Card.model_validate(content)
    except ValidationError as error:
        where, what = error.errors()[0]["loc"], error.errors()[0]["msg"]
        raise BundleError(f"{path}: {'.'.join(map(str, where))}: {what}; train it again") from error


def load_bundle(folder: Path, *, device: str = "auto") -> Bundle:
    """The bundle in a folder, ready to predict.

    Args:
        folder: The folder that `train_bundle` wrote.
        device: auto, cpu, cuda or mps.

    Raises:
        BundleError: If it is not complete, or of another version.
        TrainingError: If this machine has no such device.
    """
    card, where = read_card(folder), find_device(device).name
    paths = [folder / card.content / name for name in _weights(card)]
    try:
        network, *others = (load_network(path, device=where) for path in paths)
    except BundleError:
        if read_card(folder).content == card.content:
            raise
        return load_bundle(folder, device=device)  # another training has just replaced it
    return Bundle(network, card, folder, tuple(others))


def _weights(card: Card) -> list[str]:
    """The file of each network of a bundle."""
    return ["model.safetensors", *(f"model-{number}.safetensors" for number in range(2, card.n_networks + 1))]
