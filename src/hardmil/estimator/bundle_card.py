"""A fitted classifier as the card of a bundle, and the parameters that a bundle stands for."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hardmil.bags.bag import Bag
from hardmil.bundles.bundle import Bundle, Card
from hardmil.bundles.bundle_training import DEFAULT_THRESHOLD
from hardmil.bundles.training_profile import profile_of
from hardmil.config.section import fingerprint
from hardmil.config.task import TaskConfig
from hardmil.errors import BundleError, ConfigError
from hardmil.evaluation.arms import BASES, TWO_CLASSES_ONLY
from hardmil.mining.procedure import Mined

TRAINING = ("epochs", "lr", "weight_decay", "bags_per_step", "balance", "max_instances")


def card_of(
    mined: Mined, bags: Sequence[Bag], *, parameters: Mapping[str, object], classes: tuple[str, ...]
) -> Card:
    """The card of a classifier; its threshold is 0.5, as nothing was held out to set another one on.

    Args:
        mined: What training gave.
        bags: The training bags.
        parameters: Parameters of the classifier.
        classes: The negative and the positive label; of more than two, all in their order.
    """
    base = next(name for name, kind in BASES.items() if kind == mined.model.config.pooling.kind)
    mining = parameters["mining"]
    return Card(
        hardmil=version("hardmil"),
        fingerprint=fingerprint({name: repr(value) for name, value in parameters.items()}),
        arm=base if mining == "none" else f"{base}+{mining}",
        classes=classes,
        task=mined.model.config.task,
        threshold=DEFAULT_THRESHOLD,
        instances=bags[0].kind,
        patches=None,
        training_profile=profile_of(bags),
        training_slides=tuple(bag.slide_id for bag in bags),
        n_false_positive_bags=mined.n_false_positive_bags,
        n_hard=len(mined.pool),
    )


def parameters_of(bundle: Bundle) -> dict[str, Any]:
    """The parameters of a classifier with the settings of a bundle, as far as a classifier has them."""
    config = bundle.network.config
    return {
        "pooling": config.pooling.kind,
        "lam": config.pooling.lam,
        "instance_loss": config.instance_loss.beta,
        "negative": config.task.negative,
        "ordinal": config.task.ordinal,
        **{name: getattr(config.training, name) for name in TRAINING},
    }


def check_pooling(kind: str, *, task: TaskConfig) -> None:
    """Check that a pooling can tell these classes apart.

    Raises:
        ConfigError: If it is for two.
    """
    if not task.is_binary and kind in TWO_CLASSES_ONLY:
        raise ConfigError(
            f"pooling: {kind} is for two labels; found {task.n_classes}; expected another pooling, such as "
            "adaptive-attention"
        )


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
