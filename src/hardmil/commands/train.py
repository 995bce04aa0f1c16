"""`hardmil train STUDY`: one deployable bundle from all slides: base, mine, retrain."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from hardmil.bags.made import made_in_common
from hardmil.commands.cohort import study_cohort
from hardmil.commands.outcome import Outcome
from hardmil.commands.study_folder import Study, count, open_study, study_bags
from hardmil.config import cut_config, fingerprint, resolve_config
from hardmil.errors import BundleError
from hardmil.files import write_run_record
from hardmil.jobs import progress, write_failures
from hardmil.mil.bundle import Bundle, Card, load_bundle, save_bundle
from hardmil.mil.training import find_device
from hardmil.mining.procedure import Mined, train_and_mine
from hardmil.mining.verdicts import reviewer_digest
from hardmil.study.arms import Arm, arm
from hardmil.study.results import MINED, hard_negative_rows, write_rows
from hardmil.study.trainer import CODE_VERSION, Trainer
from hardmil.study.trial import Cohort, longest_training

THRESHOLD = 0.5


def train(
    path: Path, *, overrides: Sequence[str] = (), device: str | None = None, quiet: bool = False
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
    stands_for = _stands_for(chosen, study=study, cohort=cohort)
    folder = study.folder / "bundle"
    if _is_trained(folder, stands_for):
        line = f"{folder} was trained under these knobs before; nothing to do"
        return Outcome([line], {"bundle": str(folder)}, found.failures)
    where = find_device(device or study.config.device, precision=chosen.model.training.precision)
    total = longest_training(chosen, kind=found.bags[0].kind)
    with progress(f"training {chosen.name}", total=total, quiet=quiet) as step:
        on_epoch: Callable[[int, float], None] = lambda epoch, loss: step()  # noqa: E731
        trainer = Trainer(None, cohort.digest, where, on_epoch)
        mined = train_and_mine(
            found.bags,
            config=chosen.model,
            mining=chosen.mining,
            seed=study.config.seed,
            train=trainer.train,
            reviewer=cohort.reviewer(chosen, found.bags) if chosen.asks else None,
        )
    card = _card(study, chosen, cohort=cohort, mined=mined, stands_for=stands_for)
    write_rows(folder / "hard_negatives.csv", hard_negative_rows(mined.pool), columns=MINED)
    save_bundle(folder, Bundle(mined.model, card))
    log = write_failures(folder, list(found.failures))
    config = study.config.model_dump(mode="json") | {
        "resolved": resolve_config(chosen.model, kind=found.bags[0].kind).model_dump(mode="json")
    }
    write_run_record(folder, "hardmil train", config=config, seed=study.config.seed, started=started)
    outcome = _outcome(folder, chosen=chosen, cohort=cohort, mined=mined)
    return replace(outcome, lines=[*found.notes, *outcome.lines], failures=found.failures, log=log)


def _stands_for(chosen: Arm, *, study: Study, cohort: Cohort) -> str:
    model = resolve_config(chosen.model, kind=cohort.bags[0].kind).model_dump(mode="json")
    mining = chosen.mining.model_dump(mode="json")
    cut = cut_config(study.config).model_dump(mode="json")
    classes = study.manifest.classes
    asked = reviewer_digest(cohort.verdicts) if chosen.asks else None
    seed = study.config.seed
    return fingerprint([CODE_VERSION, model, mining, cut, classes, seed, cohort.digest, asked])


def _is_trained(folder: Path, stands_for: str) -> bool:
    try:
        return load_bundle(folder).card.fingerprint == stands_for
    except BundleError:
        return False


def _card(study: Study, chosen: Arm, *, cohort: Cohort, mined: Mined, stands_for: str) -> Card:
    negative, positive = study.manifest.classes
    made = made_in_common(bag.made for bag in cohort.bags)
    return Card(
        hardmil=version("hardmil"),
        fingerprint=stands_for,
        arm=chosen.name,
        classes=(negative, positive),
        threshold=THRESHOLD,
        instances=cohort.bags[0].kind,
        patches=study.config.patches if study.config.features is None else None,
        encode=study.config.encode,
        encode_px=study.config.encode_px,
        encoder=made.encoder,
        patch=made.patch,
        training_slides=tuple(bag.slide_id for bag in cohort.bags),
        n_false_positive_bags=mined.n_false_positive_bags,
        n_hard=len(mined.pool),
    )


def _outcome(folder: Path, *, chosen: Arm, cohort: Cohort, mined: Mined) -> Outcome:
    positives = int(cohort.labels.sum())
    slides = f"{count(len(cohort.bags), 'slide')} ({positives} positive) of {len(set(cohort.cases))} cases"
    lines = [f"trained {chosen.name} on {slides}", mining_line(chosen, mined), f"bundle: {folder}"]
    values: dict[str, object] = {
        "bundle": str(folder),
        "arm": chosen.name,
        "slides": len(cohort.bags),
        "n_false_positive_bags": mined.n_false_positive_bags,
        "n_hard": len(mined.pool),
    }
    return Outcome(lines, values)


def mining_line(chosen: Arm, mined: Mined) -> str:
    """What mining found, in words."""
    if chosen.mining.use == "none":
        return "this arm does not mine"
    if not mined.pool:
        return "mined nothing: no negative slide was scored positive, so the model is its base"
    slides = count(mined.n_false_positive_bags, "false-positive slide")
    return f"mined {count(len(mined.pool), 'hard negative')} from {slides}, and trained again with them"
