"""Train one deployable bundle on all slides of a study."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from hardmil.bags.provenance import common_provenance
from hardmil.bundles.bundle import OUT_OF_FOLD, Bundle, Card, load_bundle, save_bundle
from hardmil.bundles.class_mining import mine_by_class
from hardmil.bundles.training_profile import profile_of
from hardmil.config.section import fingerprint
from hardmil.config.study import instance_config
from hardmil.device import find_device
from hardmil.errors import BundleError
from hardmil.evaluation.arms import Arm, arm, check_arms
from hardmil.evaluation.choice import Choice
from hardmil.evaluation.cohort import Cohort, study_cohort
from hardmil.evaluation.results import HARD_NEGATIVES
from hardmil.evaluation.study_review import reviewed_bags
from hardmil.evaluation.trainer import CODE_VERSION, Trainer
from hardmil.evaluation.trial import (
    OperatingSettings,
    Trial,
    calibration_of,
    chosen_trial,
    class_calibration_of,
    hashed_settings,
    longest_training,
    operating_settings,
    whole_arm_out_of_fold,
)
from hardmil.evaluation.whole_study import temporary_trainer, train_whole, whole_trial
from hardmil.files.atomic import prepare_folder
from hardmil.files.locks import locked
from hardmil.files.run_record import write_run_record
from hardmil.jobs.failures import Failure, write_failures
from hardmil.jobs.progress import progress
from hardmil.mil.bag_score import BagScore
from hardmil.mil.calibration import Calibration
from hardmil.mil.class_calibration import ClassCalibration
from hardmil.mil.class_operating import set_class_operating_points
from hardmil.mil.class_scores import scores_by_class
from hardmil.mil.inference import bag_scores
from hardmil.mil.operating import OperatingPoint, set_operating_point
from hardmil.mining.hard_instances import HardInstance, mine_instances_above
from hardmil.mining.procedure import Mined
from hardmil.mining.verdicts import reviewer_digest
from hardmil.preprocessing.study_folder import Study, read_bags
from hardmil.tracking import LossByEpoch, TrackWith, tracked

SAVING_S = 60.0
"""How long to wait for another training that writes its bundle."""
DEFAULT_THRESHOLD = 0.5
"""Score above which a slide is called positive where no threshold could be set."""


@dataclass(frozen=True)
class TrainedBundle:
    """A bundle on disk and what it was trained on.

    `is_new` is False where the folder already held a bundle of the same settings, bags and code: nothing was
    trained then. `n_of_class` are the training slides of each class. `failures` are slides without a bag, and
    `log` holds their tracebacks.
    """

    folder: Path
    card: Card
    is_new: bool
    n_of_class: tuple[int, ...]
    n_cases: int
    notes: Sequence[str] = ()
    failures: Sequence[Failure] = ()
    log: Path | None = None


def train_bundle(
    study: Study, *, device: str | None = None, track: TrackWith | None = None, quiet: bool = False
) -> TrainedBundle:
    """Train the study's arm on all its slides and write `bundle/` in the study's folder.

    Does nothing where `bundle/` was trained with the same settings, bags and code.

    Args:
        study: The study.
        device: auto, cpu, cuda or mps; the study's `device` by default.
        track: Log settings and losses to this tracker.
        quiet: No progress bar.

    Raises:
        BagError: If no slide has a bag.
    """
    started = time.time()
    folder = study.folder / "bundle"
    check_arms([study.config.arm], study=study.config)
    prepare_folder(folder)
    reviewed = reviewed_bags(study, read_bags(study, quiet=quiet))
    found = reviewed.found
    cohort = study_cohort(study, bags=found.bags, matched=reviewed.matched)
    chosen = arm(study.config.arm, study=study.config, kind=cohort.bags[0].kind)
    wanted = _fingerprint(chosen, study=study, cohort=cohort)
    card, log, is_new = _current_card(folder, wanted), None, False
    if card is None:
        learned = _train(chosen, study=study, cohort=cohort, device=device, track=track, quiet=quiet)
        card, is_new = _card(study, cohort=cohort, learned=learned, training_hash=wanted), True
        network, *others = (one.model for one in learned.members)
        tables = {HARD_NEGATIVES: learned.members[0].pool, OUT_OF_FOLD: learned.out_of_fold}
        with locked(folder / "bundle.json", patience_s=SAVING_S):
            card = save_bundle(folder, Bundle(network, card, folder, tuple(others)), tables=tables)
        log = write_failures(folder, list(found.failures))
        config = _recorded_config(study, learned.arm)
        seed = study.config.seed
        write_run_record(
            folder, "hardmil train", config=config, seed=seed, started=started, below=study.folder
        )
    return TrainedBundle(
        folder=folder,
        card=card,
        is_new=is_new,
        n_of_class=tuple(card.task.strata(cohort.labels).sum(axis=0)[: card.task.n_classes].tolist()),
        n_cases=len(set(cohort.cases)),
        notes=reviewed.notes(uses_verdicts=chosen.may_use_verdicts),
        failures=found.failures,
        log=log,
    )


@dataclass(frozen=True, eq=False)
class _Learned:
    """What training leaves: the networks with what they mined, and threshold and calibration, if set.

    `arm` is what was trained, `choice` how `auto` came to it. `out_of_fold` are the hard negatives of models
    that had not seen their slides; they are not trained on. With more than two classes, there is an operating
    point for each branch, and a calibration of all, instead of `operating` and `calibration`.
    """

    arm: Arm
    choice: Choice | None
    members: Sequence[Mined]
    operating: OperatingPoint | None = None
    calibration: Calibration | None = None
    class_operating: tuple[OperatingPoint, ...] = ()
    class_calibration: ClassCalibration | None = None
    out_of_fold: Sequence[HardInstance] = ()


def _train(
    chosen: Arm, *, study: Study, cohort: Cohort, device: str | None, track: TrackWith | None, quiet: bool
) -> _Learned:
    operating = operating_settings(study.config.evaluation)
    n_folds = operating.n_folds if operating else 0
    total = longest_training(chosen, n_operating_folds=n_folds)
    with (
        tracked(track, folder=study.folder, name=f"train {chosen.name}") as tracker,
        progress(f"training {chosen.name}", total=total, quiet=quiet) as step,
    ):
        tracker.params(_recorded_config(study, chosen))
        where = find_device(device or study.config.device, precision=chosen.model.training.precision)
        on_epoch = _both(step, LossByEpoch(tracker))
        with temporary_trainer(cohort, device=where, on_epoch=on_epoch) as trainer:
            trial = whole_trial(chosen, cohort=cohort, seed=study.config.seed, operating=operating)
            trial, choice = chosen_trial(cohort.bags, trial=trial, cohort=cohort, trainer=trainer)
            learned = _Learned(trial.arm, choice, train_whole(trial, cohort=cohort, trainer=trainer))
            return _decided(learned, trial=trial, cohort=cohort, trainer=trainer)


def _both(step: Callable[[], None], log_loss: LossByEpoch) -> Callable[[int, float], None]:
    def on_epoch(epoch: int, loss: float) -> None:
        step()
        log_loss(epoch, loss)

    return on_epoch


def _decided(learned: _Learned, *, trial: Trial, cohort: Cohort, trainer: Trainer) -> _Learned:
    """The same with what follows from scores of each slide by models trained without its case.

    These are threshold, calibration, and the hard negatives at this threshold; none where cases are too few.
    """
    operating = trial.operating
    found = whole_arm_out_of_fold(cohort.bags, trial=trial, cohort=cohort, trainer=trainer)
    if operating is None or found is None:
        return learned
    if not trial.arm.model.task.is_binary:
        return _decided_by_class(learned, found, trial=trial, cohort=cohort, operating=operating)
    scores = bag_scores(found)
    point = set_operating_point(
        cohort.labels, scores, cases=cohort.cases, target=operating.target, seed=trial.seed
    )
    calibration = calibration_of(trial.arm, cohort.labels, scores, method=operating.calibration)
    fooled = mine_instances_above(
        cohort.bags,
        scores=found,
        threshold=point.threshold.value,
        n_sigma=trial.arm.mining.n_sigma,
        source="out-of-fold",
    )
    return replace(learned, operating=point, calibration=calibration, out_of_fold=fooled)


def _decided_by_class(
    learned: _Learned,
    found: Sequence[BagScore],
    *,
    trial: Trial,
    cohort: Cohort,
    operating: OperatingSettings,
) -> _Learned:
    """The same for more than two classes: an operating point for each, and hard negatives at each."""
    task = trial.arm.model.task
    of_classes = scores_by_class(found, task=task)
    points = set_class_operating_points(
        cohort.labels, of_classes, task=task, cases=cohort.cases, target=operating.target, seed=trial.seed
    )
    calibration = class_calibration_of(trial.arm, cohort.labels, of_classes, method=operating.calibration)
    fooled = mine_by_class(
        cohort.bags,
        scores=found,
        task=task,
        thresholds=[point.threshold.value for point in points],
        n_sigma=trial.arm.mining.n_sigma,
        source="out-of-fold",
    )
    return replace(learned, class_operating=points, class_calibration=calibration, out_of_fold=fooled)


def _recorded_config(study: Study, chosen: Arm) -> Mapping[str, object]:
    return study.config.model_dump(mode="json") | {"resolved": chosen.model.model_dump(mode="json")}


def _fingerprint(chosen: Arm, *, study: Study, cohort: Cohort) -> str:
    """Changes with anything the bundle depends on."""
    operating = operating_settings(study.config.evaluation)
    return fingerprint(
        [
            CODE_VERSION,
            chosen.model.hashed(),
            chosen.mining.hashed(),
            instance_config(study.config).hashed(),
            study.slide_table.classes,
            study.config.seed,
            cohort.digest,
            reviewer_digest(cohort.verdicts) if chosen.may_use_verdicts else None,
            operating.key() if operating else None,
            *([chosen.auto.hashed(), *map(hashed_settings, chosen.candidates)] if chosen.auto else []),
        ]
    )


def _current_card(folder: Path, wanted: str) -> Card | None:
    """The card of the bundle in a folder, if it has this fingerprint."""
    try:
        card = load_bundle(folder).card
    except BundleError:
        return None
    return card if card.fingerprint == wanted else None


def _card(study: Study, *, cohort: Cohort, learned: _Learned, training_hash: str) -> Card:
    operating, mined = learned.operating, learned.members[0]
    provenance = common_provenance(bag.provenance for bag in cohort.bags)
    return Card(
        hardmil=version("hardmil"),
        fingerprint=training_hash,
        arm=learned.arm.name,
        choice=learned.choice,
        n_networks=len(learned.members),
        classes=study.slide_table.classes,
        task=study.config.task,
        threshold=operating.threshold.value if operating else DEFAULT_THRESHOLD,
        operating=operating,
        calibration=learned.calibration,
        class_operating=learned.class_operating,
        class_calibration=learned.class_calibration,
        training_profile=profile_of(cohort.bags),
        instances=cohort.bags[0].kind,
        patches=study.config.patches if study.config.features is None else None,
        encode=study.config.encode,
        encode_px=study.config.encode_px,
        encoder=provenance.encoder,
        patch=provenance.patch,
        training_slides=tuple(bag.slide_id for bag in cohort.bags),
        n_false_positive_bags=mined.n_false_positive_bags,
        n_hard=len(mined.pool),
    )
