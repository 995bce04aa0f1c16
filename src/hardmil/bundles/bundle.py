"""A trained model as a folder: weights in safetensors, and a JSON card with everything needed to use them."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from hardmil.bags.bag import Bag
from hardmil.bags.provenance import Provenance
from hardmil.bundles.training_profile import TrainingProfile
from hardmil.config.model import BagKind
from hardmil.config.patches import PatchConfig
from hardmil.config.study import PIXELS, InstanceConfig
from hardmil.device import find_device
from hardmil.errors import BagError, BundleError, TableError
from hardmil.evaluation.choice import Choice
from hardmil.files.atomic import read_json, visible, write_json
from hardmil.mil.calibration import Calibration
from hardmil.mil.inference import BagScore, score_together
from hardmil.mil.network import BagClassifier
from hardmil.mil.operating import OperatingPoint
from hardmil.mil.weights import load_network, save_network

FORMAT = 1
OUT_OF_FOLD = "out_of_fold_hard_negatives.csv"
"""Table in the bundle: what fooled the arm on slides that it had not seen."""


class Card(BaseModel):
    """Everything in a bundle except its weights: `bundle.json`.

    `fingerprint` is the hash of the training: settings, bags and code. A slide with a score above `threshold`
    is called positive, `classes[1]`. `patches` is None for bundles trained on ready-made features; otherwise
    `encode` is how patches become instances. `encoder` and `patch` are what the training bags said about
    their encoder, with a hash of its weights, and about their patches; None if they said nothing. `operating`
    is what the threshold is set for, `calibration` turns a score into a probability; both are None if the
    study was too small to set them, and the threshold is then 0.5. `training_profile` describes the training
    slides; None in bundles of early versions. `choice` is how the arm `auto` came to `arm`; None if the study
    named the arm. `n_networks` is how many networks are averaged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    hardmil: str
    fingerprint: str
    arm: str
    choice: Choice | None = None
    n_networks: int = Field(default=1, ge=1)
    classes: tuple[str, str]
    threshold: float
    instances: BagKind
    patches: PatchConfig | None
    encode: str = PIXELS
    encode_px: int | None = None
    encoder: str | None = None
    patch: str | None = None
    operating: OperatingPoint | None = None
    calibration: Calibration | None = None
    training_profile: TrainingProfile | None = Field(
        default=None, validation_alias=AliasChoices("training_profile", "familiar")
    )
    training_slides: tuple[str, ...]
    n_false_positive_bags: int
    n_hard: int


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


def save_bundle(folder: Path, bundle: Bundle) -> None:
    """Write `model.safetensors`, then `bundle.json`: a folder with the latter is complete."""
    (folder / "bundle.json").unlink(missing_ok=True)
    names = _weights(bundle.card)
    for name, network in zip(names, [bundle.network, *bundle.others], strict=True):
        save_network(folder / name, network)
    for path in visible(folder.glob("model-*.safetensors")):
        if path.name not in names:  # of an earlier bundle of more networks
            path.unlink()
    write_json(folder / "bundle.json", bundle.card.model_dump(mode="json"))


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
        raise BundleError(f"{path}: not the card of a bundle (no JSON in it); train it again") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise BundleError(
            f"{path}: bundle format {found}, this hardmil reads format {FORMAT}; train it again, or use "
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
    network, *others = (load_network(folder / name, device=where) for name in _weights(card))
    return Bundle(network, card, folder, tuple(others))


def _weights(card: Card) -> list[str]:
    """The file of each network of a bundle."""
    return ["model.safetensors", *(f"model-{number}.safetensors" for number in range(2, card.n_networks + 1))]
