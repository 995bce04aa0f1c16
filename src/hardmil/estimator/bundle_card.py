"""A fitted classifier as the card of a bundle, and the parameters that a bundle stands for."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hardmil.bags.bag import Bag
from hardmil.bundles.bundle import Bundle, Card
from hardmil.bundles.training_profile import profile_of
from hardmil.config.section import fingerprint
from hardmil.errors import BundleError
from hardmil.estimator.arm_training import TrainedArm
from hardmil.estimator.parameters import NETWORK, TRAINING


def card_of(
    trained: TrainedArm, bags: Sequence[Bag], *, parameters: Mapping[str, object], classes: tuple[str, ...]
) -> Card:
    """The card of a classifier.

    Args:
        trained: What training gave.
        bags: The training bags.
        parameters: Parameters of the classifier.
        classes: The negative and the positive label; of more than two, all in their order.
    """
    first = trained.members[0]
    return Card(
        hardmil=version("hardmil"),
        fingerprint=fingerprint({name: repr(value) for name, value in parameters.items()}),
        arm=trained.name,
        choice=next(iter(trained.choices), None),
        n_networks=len(trained.members),
        classes=classes,
        task=first.model.config.task,
        threshold=trained.threshold,
        calibration=trained.calibration,
        class_calibration=trained.class_calibration,
        instances=bags[0].kind,
        patches=None,
        training_profile=profile_of(bags),
        training_slides=tuple(bag.slide_id for bag in bags),
        n_false_positive_bags=first.n_false_positive_bags,
        n_hard=len(first.pool),
    )


def parameters_of(bundle: Bundle) -> dict[str, Any]:
    """The parameters of a classifier with the settings of a bundle, as far as a classifier has them."""
    config = bundle.network.config
    return {
        "pooling": config.pooling.kind,
        "lam": config.pooling.lam,
        **{name: getattr(config.network, name) for name in NETWORK},
        "instance_loss": config.instance_loss.beta,
        "negative": config.task.negative,
        "ordinal": config.task.ordinal,
        **{name: getattr(config.training, name) for name in TRAINING},
    }


def check_features(card: Card, *, folder: Path) -> None:
    """Check that a bundle is of features.

    Raises:
        BundleError: If it is of pixels: the classifier knows nothing of how patches are cut.
    """
    if card.instances != "features":
        raise BundleError(
            f"{folder}: is of pixels; expected features; to train on pixels and predict slides, use a study: "
            "hardmil train, hardmil predict"
        )
