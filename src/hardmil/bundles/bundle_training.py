"""Train one deployable bundle on all slides of a study."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from hardmil.bags.folds import Fold
from hardmil.bags.provenance import made_in_common
from hardmil.bundles.bundle import Card, load_bundle
from hardmil.bundles.training_profile import familiar_with
from hardmil.config.model import resolve_config
from hardmil.config.study import cut_config, fingerprint
from hardmil.errors import BundleError
from hardmil.evaluation.arms import Arm
from hardmil.evaluation.cohort import Cohort
from hardmil.evaluation.trainer import CODE_VERSION, Trainer
from hardmil.evaluation.trial import Operating, Trial, operating_of, out_of_fold_scores
from hardmil.mil.calibration import Calibration, fit_calibration
from hardmil.mil.operating import OperatingPoint, set_operating_point
from hardmil.mining.procedure import Mined
from hardmil.mining.verdicts import reviewer_digest
from hardmil.preprocessing.study_folder import Study

THRESHOLD = 0.5


@dataclass(frozen=True)
class Decision:
    """How the bundle's score is to be used."""

    operating: OperatingPoint
    calibration: Calibration


def bundle_decision(
    chosen: Arm, *, operating: Operating | None, study: Study, cohort: Cohort, trainer: Trainer
) -> Decision | None:
    """Set on scores of each slide by the arm trained without its case; None where cases are too few."""
    everything = Fold(np.arange(len(cohort.bags)), np.zeros(0, dtype=np.int64))
    trial = Trial(chosen, 0, 0, everything, study.config.seed, operating)
    scores = out_of_fold_scores(cohort.bags, trial=trial, cohort=cohort, trainer=trainer)
    if operating is None or scores is None:
        return None
    labels = cohort.labels
    return Decision(
        set_operating_point(
            labels, scores, cases=cohort.cases, asked=operating.asked, seed=study.config.seed
        ),
        fit_calibration(labels, scores, method=operating.calibration),
    )


def training_fingerprint(chosen: Arm, *, study: Study, cohort: Cohort) -> str:
    model = resolve_config(chosen.model, kind=cohort.bags[0].kind).model_dump(mode="json")
    mining = chosen.mining.model_dump(mode="json")
    cut = cut_config(study.config).model_dump(mode="json")
    classes = study.manifest.classes
    asked = reviewer_digest(cohort.verdicts) if chosen.asks else None
    seed = study.config.seed
    operating = operating_of(study.config.evaluation)
    decided = operating.key() if operating else None
    return fingerprint([CODE_VERSION, model, mining, cut, classes, seed, cohort.digest, asked, decided])


def is_trained(folder: Path, stands_for: str) -> bool:
    try:
        return load_bundle(folder).card.fingerprint == stands_for
    except BundleError:
        return False


def bundle_card(
    study: Study,
    chosen: Arm,
    *,
    cohort: Cohort,
    mined: Mined,
    stands_for: str,
    decision: Decision | None,
) -> Card:
    negative, positive = study.manifest.classes
    made = made_in_common(bag.made for bag in cohort.bags)
    return Card(
        hardmil=version("hardmil"),
        fingerprint=stands_for,
        arm=chosen.name,
        classes=(negative, positive),
        threshold=decision.operating.threshold.value if decision else THRESHOLD,
        operating=decision.operating if decision else None,
        calibration=decision.calibration if decision else None,
        familiar=familiar_with(cohort.bags),
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
