"""The paper's protocol on its two data sets, or the part of it that a run asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hardmil.bags.bag import Bag
from hardmil.bags.bag_file import read_bag, write_bag
from hardmil.bags.folds import repeated_folds
from hardmil.config.model import resolve_config
from hardmil.config.study import PIXELS, StudyConfig, instance_config, model_config
from hardmil.config.study_file import parse_study, put_overrides
from hardmil.encoders.open_encoder import encoder_of
from hardmil.errors import ConfigError
from hardmil.evaluation.arm_name import with_controls
from hardmil.evaluation.arms import Arm, arm
from hardmil.evaluation.cohort import make_cohort
from hardmil.evaluation.evaluation import Evaluation, patches_word
from hardmil.evaluation.results import RESULTS, ResultRow
from hardmil.evaluation.trial import operating_settings
from hardmil.files.csv_table import read_table
from hardmil.jobs.progress import progress
from hardmil.paper.datasets import published_config
from hardmil.paper.images import PublishedSet
from hardmil.paper.tables import PAPER, PAPER_ARMS
from hardmil.preprocessing.instances import encoded

FOLDS = {"colon": 10, "ucsb": 4}
REPEATS = 5
GROUPS_NOTE = (
    "The 41 cases are fields of at most 9 patients, who are unknown: the 95% intervals are too narrow, and "
    "even this split may leak."
)
IMAGES_NOTE = (
    "Each image counts as a case, although patients have several: the 95% intervals are too narrow, and "
    "this split may leak."
)


@dataclass(frozen=True)
class Reproduction:
    """The part of the paper's protocol to run; None is the value of the paper."""

    folds: int | None = None
    repeats: int | None = None
    epochs: int | None = None
    arms: tuple[str, ...] | None = None
    split: str = "image"
    patches: str = "grid"
    encoder: str | None = None
    only_folds: tuple[int, ...] | None = None


def reproduction_config(name: str, *, protocol: Reproduction, overrides: Sequence[str]) -> StudyConfig:
    """The paper's settings, changed by protocol and overrides.

    Raises:
        ConfigError: If the set or the split is not known.
    """
    if name not in PAPER:
        raise ConfigError(f"reproduce {name}: no such set; expected {' or '.join(PAPER)}")
    if protocol.split not in ("image", "group"):
        raise ConfigError(f"--split {protocol.split}: expected image or group")
    content = published_config(name, encode=protocol.encoder or PIXELS).model_dump(mode="json")
    content["patches"]["mode"] = protocol.patches
    if protocol.epochs is not None:
        content["training"]["epochs"] = protocol.epochs
    put_overrides(content, overrides)
    return parse_study(content, source="reproduce")


def _instances(
    published: PublishedSet, *, config: StudyConfig, device: str, output: Path, quiet: bool
) -> list[Bag]:
    """The bags for the arms: pixels, or embeddings, which are stored in the folder."""
    settings = instance_config(config)
    encoder = encoder_of(settings, device=device, precision=config.training.precision)
    if encoder is None:
        return list(published.bags)
    folder = output / f"features_{settings.fingerprint()}"
    made: list[Bag] = []
    with progress(f"encoding, {settings.encode}", total=len(published.bags), quiet=quiet) as step:
        for bag in published.bags:
            path = folder / f"{bag.slide_id}.h5"
            if not path.exists():
                write_bag(path, encoded(bag, encoder=encoder), attributes={"encoder": encoder.name})
            made.append(read_bag(path, case_id=bag.case_id, label=bag.label))
            step()
    return made


def reproduction_evaluation(
    name: str,
    *,
    published: PublishedSet,
    config: StudyConfig,
    protocol: Reproduction,
    output: Path,
    device: str = "auto",
    quiet: bool = False,
) -> Evaluation:
    """The evaluation of the paper's arms on its set.

    Raises:
        ConfigError: If an arm or the encoder is not known.
    """
    bags = _instances(published, config=config, device=device, output=output, quiet=quiet)
    cohort = make_cohort(bags, truth=published.truth)
    names = with_controls(protocol.arms or PAPER_ARMS)
    return Evaluation(
        cohort=cohort,
        folds=repeated_folds(
            cohort.labels,
            cohort.cases,
            n_folds=protocol.folds or FOLDS[name],
            n_repeats=protocol.repeats or REPEATS,
            seed=config.seed,
        ),
        arms=[arm(one, study=config, kind=bags[0].kind) for one in names],
        classes=published.classes,
        folder=output,
        split=protocol.split,
        patches=patches_word(config),
        seed=config.seed,
        only_folds=protocol.only_folds,
        operating=operating_settings(config.evaluation),
    )


def arms_of_earlier_calls(evaluation: Evaluation, *, config: StudyConfig) -> list[Arm]:
    """The arms that an earlier call left rows of, without those that this version does not know."""
    arms: list[Arm] = []
    kind = evaluation.cohort.bags[0].kind
    rows = read_table(evaluation.folder / RESULTS, ResultRow)
    for name in dict.fromkeys(row.trial.arm for row in rows):
        try:
            arms.append(arm(name, study=config, kind=kind))
        except ConfigError:
            continue
    return arms


def interval_notes(name: str, *, split: str) -> list[str]:
    """What makes the intervals of a published set too narrow."""
    if split == "image":
        return [IMAGES_NOTE]
    return [GROUPS_NOTE] if name == "colon" else []


def what_was_run(protocol: Reproduction, *, name: str, config: StudyConfig) -> str:
    """The part of the protocol that was run, in words."""
    folds, repeats = protocol.folds or FOLDS[name], protocol.repeats or REPEATS
    kind = "pixels" if config.encode == PIXELS else "features"
    epochs = resolve_config(model_config(config), kind=kind).training.epochs
    return (
        f"{name}, split by {protocol.split}, patches {patches_word(config)}: {folds} folds x {repeats} "
        f"repeats, {epochs} epochs. The column trials gives the number of trials behind each row; the paper "
        f"has {FOLDS[name]} x {REPEATS}."
    )
