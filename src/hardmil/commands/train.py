"""`hardmil train STUDY`: one deployable bundle from all slides: base, mine, retrain."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hardmil.bundles.bundle import Bundle, save_bundle
from hardmil.bundles.bundle_training import (
    THRESHOLD,
    Decision,
    bundle_card,
    bundle_decision,
    is_trained,
    training_fingerprint,
)
from hardmil.config.model import resolve_config
from hardmil.device import find_device
from hardmil.evaluation.arms import Arm, arm
from hardmil.evaluation.cohort import Cohort, study_cohort
from hardmil.evaluation.results import MINED, hard_negative_rows
from hardmil.evaluation.trainer import Trainer
from hardmil.evaluation.trial import longest_training, operating_settings
from hardmil.files.csv_table import write_rows
from hardmil.files.run_record import write_run_record
from hardmil.jobs.failures import write_failures
from hardmil.jobs.outcome import Outcome, count
from hardmil.jobs.progress import progress
from hardmil.mining.procedure import Mined, train_and_mine
from hardmil.preprocessing.study_folder import open_study, study_bags
from hardmil.tracking import LossByEpoch, TrackWith, tracked


def train(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    device: str | None = None,
    track: TrackWith | None = None,
    quiet: bool = False,
) -> Outcome:
    """Train the study's arm on all its slides and leave `bundle/`; skips one trained under the same knobs.

    Raises:
        BagError: If no slide has a bag.
    """
    started = time.time()
    study = open_study(path, overrides=overrides)
    chosen = arm(study.config.arm, study=study.config)
    found = study_bags(study, quiet=quiet)
    cohort = study_cohort(study, bags=found.bags)
    stands_for = training_fingerprint(chosen, study=study, cohort=cohort)
    folder = study.folder / "bundle"
    if is_trained(folder, stands_for):
        line = f"{folder} was trained under these knobs before; nothing to do"
        return Outcome([line], {"bundle": str(folder)}, found.failures)
    where = find_device(device or study.config.device, precision=chosen.model.training.precision)
    operating = operating_settings(study.config.evaluation)
    n_folds = operating.n_folds if operating else 0
    total = longest_training(chosen, kind=found.bags[0].kind, n_operating_folds=n_folds)
    config = study.config.model_dump(mode="json") | {
        "resolved": resolve_config(chosen.model, kind=found.bags[0].kind).model_dump(mode="json")
    }
    with (
        tracked(track, folder=study.folder, name=f"train {chosen.name}") as tracker,
        progress(f"training {chosen.name}", total=total, quiet=quiet) as step,
        TemporaryDirectory() as inner_models,
    ):
        tracker.params(config)
        tell_loss = LossByEpoch(tracker)

        def on_epoch(epoch: int, loss: float) -> None:
            step()
            tell_loss(epoch, loss)

        # Kept for a while, so that out-of-fold mining and the operating point share them.
        trainer = Trainer(Path(inner_models), cohort.digest, where, on_epoch)
        mined = train_and_mine(
            found.bags,
            config=chosen.model,
            mining=chosen.mining,
            seed=study.config.seed,
            train=trainer.train,
            reviewer=cohort.reviewer(chosen, found.bags) if chosen.uses_verdicts else None,
        )
        decision = bundle_decision(chosen, operating=operating, study=study, cohort=cohort, trainer=trainer)
    card = bundle_card(study, chosen, cohort=cohort, mined=mined, stands_for=stands_for, decision=decision)
    write_rows(folder / "hard_negatives.csv", hard_negative_rows(mined.pool), columns=MINED)
    save_bundle(folder, Bundle(mined.model, card))
    log = write_failures(folder, list(found.failures))
    write_run_record(folder, "hardmil train", config=config, seed=study.config.seed, started=started)
    outcome = _outcome(folder, chosen=chosen, cohort=cohort, mined=mined, decision=decision)
    return replace(outcome, lines=[*found.notes, *outcome.lines], failures=found.failures, log=log)


def _outcome(
    folder: Path, *, chosen: Arm, cohort: Cohort, mined: Mined, decision: Decision | None
) -> Outcome:
    positives = int(cohort.labels.sum())
    slides = f"{count(len(cohort.bags), 'slide')} ({positives} positive) of {len(set(cohort.cases))} cases"
    lines = [f"trained {chosen.name} on {slides}", mining_line(chosen, mined)]
    lines += [_decision_line(decision), f"bundle: {folder}"]
    values: dict[str, object] = {
        "bundle": str(folder),
        "arm": chosen.name,
        "slides": len(cohort.bags),
        "n_false_positive_bags": mined.n_false_positive_bags,
        "n_hard": len(mined.pool),
        "operating": decision.operating.model_dump(mode="json") if decision else None,
    }
    return Outcome(lines, values)


def _decision_line(decision: Decision | None) -> str:
    """The threshold and what it is good for, in words."""
    if decision is None:
        return (
            f"threshold {THRESHOLD}, not set on scores: evaluation.operating_folds is 0, or a class has "
            "too few cases for it"
        )
    point = decision.operating
    threshold, sensitivity, fpr = (
        f"{one.value:.3g} [{one.low:.3g}, {one.high:.3g}]"
        for one in (point.threshold, point.sensitivity, point.fpr)
    )
    return (
        f"threshold {threshold} for {point.asked}: sensitivity {sensitivity}, FPR {fpr}, out of fold, with "
        f"95% intervals by case ({point.n_positive} positive, {point.n_negative} negative slides)"
    )


def mining_line(chosen: Arm, mined: Mined) -> str:
    """What mining found, in words."""
    if chosen.mining.use == "none":
        return "this arm does not mine"
    if not mined.pool:
        return "mined nothing: no negative slide was scored positive, so the model is its base"
    slides = count(mined.n_false_positive_bags, "false-positive slide")
    return f"mined {count(len(mined.pool), 'hard negative')} from {slides}, and trained again with them"
