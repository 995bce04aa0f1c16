"""The effect of the verdicts: the study's arm with and without them, on the same folds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from hardmil.config.mining import REVIEW
from hardmil.config.task import MACRO
from hardmil.errors import ConfigError, JobError
from hardmil.evaluation.arm_name import Use, parse_arm_name
from hardmil.evaluation.arms import AUTO, FISHER
from hardmil.evaluation.cohort import study_cohort
from hardmil.evaluation.results import CHOICES, ChoiceRow
from hardmil.evaluation.study_folds import study_folds
from hardmil.evaluation.study_review import reviewed_bags
from hardmil.files.csv_table import read_table
from hardmil.jobs.failures import Failure
from hardmil.jobs.pool import LOCAL, Engine
from hardmil.mining.verdict_matching import MatchedVerdicts
from hardmil.mining.verdicts import reviewer_digest
from hardmil.preprocessing.study_folder import Study, read_bags
from hardmil.report.evaluation_run import EvaluationRun, evaluate
from hardmil.review.answers import check_answers
from hardmil.review.held_out_slides import MAIN_RUN
from hardmil.review.rounds import RUN, Round, add_round
from hardmil.statistics.class_intervals import resample_class_arms
from hardmil.statistics.class_predictions import pool_classes
from hardmil.statistics.comparisons import can_compare, compare
from hardmil.statistics.intervals import Interval, ResampledArm, intervals, resample_arms
from hardmil.statistics.pooled_predictions import pool_predictions

FALLBACK = "ours+instance"
"""The arm where the study's arm cannot learn from verdicts."""
AT_OP, AT_HALF = "operating point", "0.5"
METRICS = {AT_OP: ("fpr_op", "sens_op"), AT_HALF: ("pooled_fpr", "pooled_recall")}
"""False-positive rate and sensitivity at a threshold; at 0.5 where no operating point could be set."""


@dataclass(frozen=True)
class ComparedArms:
    """The arm without and with verdicts, and why they are not just the study's arm."""

    without: str
    with_verdicts: str
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Retrained:
    """A round, and its report; `failures` are slides without a bag."""

    round: Round
    report: Path
    notes: Sequence[str]
    failures: Sequence[Failure]
    log: Path | None


def compared_arms(study: Study, *, run: str = MAIN_RUN) -> ComparedArms:
    """The study's arm without and with verdicts; both have the instance loss.

    Without it, an arm learns nothing of the patches of negative slides, which nobody has to judge.

    Args:
        study: The study.
        run: The evaluation that says which candidate the arm `auto` takes.
    """
    name, notes = study.config.arm, list[str]()
    if name == AUTO:
        name = _most_chosen(study, run=run)
        notes.append(f"auto chose {name} most often: it is compared with and without verdicts")
    parts = parse_arm_name(name)
    if parts.base == FISHER:
        notes.append(f"{FISHER} cannot learn from verdicts: {FALLBACK} is compared instead")
        parts = parse_arm_name(FALLBACK)
    uses = [use for use in parts.uses if use.name != "verdicts"]
    if not any(use.name == "instance" for use in uses):
        notes.append(f"{name} has no instance loss: it is added to both arms (+instance)")
        uses.append(Use("instance", ()))
    if any(use.name == "verdicts" and use.options for use in parts.uses):
        notes.append(f"{name} chooses what to ask by itself: all verdicts of the review are used instead")
    base = "-".join((parts.base, *parts.base_options))
    return ComparedArms(_arm_name(base, uses), _arm_name(base, [*uses, Use("verdicts", ())]), tuple(notes))


def _most_chosen(study: Study, *, run: str) -> str:
    """The candidate that `auto` took most often in an evaluation; the first one where it was not run."""
    rows = read_table(study.folder / "runs" / run / CHOICES, ChoiceRow)
    chosen = Counter(row.chosen for row in rows if row.trial.arm == AUTO)
    return chosen.most_common(1)[0][0] if chosen else study.config.auto.candidates[0]


def _arm_name(base: str, uses: Sequence[Use]) -> str:
    return "+".join([base, *("-".join((use.name, *use.options)) for use in uses)])


def retrain(
    study: Study,
    *,
    run: str = MAIN_RUN,
    device: str | None = None,
    engine: Engine = LOCAL,
    quiet: bool = False,
) -> Retrained:
    """A round of the review: both arms on the study's folds, in `runs/review`.

    Trials that are done are not run again, so that a stopped round continues, and a later one only trains
    with the new verdicts.

    Args:
        study: The study.
        run: The evaluation under review.
        device: auto, cpu, cuda or mps; the study's `device` by default.
        engine: Where trials run.
        quiet: No progress bar.

    Raises:
        ConfigError: If there are no verdicts to train with.
        JobError: If a trial failed.
    """
    check_answers(study)
    arms = compared_arms(study, run=run)
    study = _with_arms(study, arms)
    matched, learns = _verdicts(study, quiet=quiet)
    if not sum(matched.n_of.values()):
        raise ConfigError(
            f"{study.folder}: no verdict on any patch; expected some lesion, normal or artefact; judge "
            f"patches first: hardmil review {study.folder}"
        )
    study, fold_notes = (study, ()) if learns else _with_drawn_folds(study)
    found = evaluate(study, name=RUN, device=device, engine=engine, quiet=quiet)
    new = _round(study, arms=arms, matched=matched, run=found)
    notes = [*arms.notes, *fold_notes, *found.notes]
    return Retrained(add_round(study, new), found.report, notes, found.failures, found.log)


def _with_arms(study: Study, arms: ComparedArms) -> Study:
    config = study.config
    mining = config.mining.model_copy(update={"verdicts": REVIEW})
    evaluation = config.evaluation.model_copy(update={"arms": (arms.without, arms.with_verdicts)})
    return replace(study, config=config.model_copy(update={"mining": mining, "evaluation": evaluation}))


def _verdicts(study: Study, *, quiet: bool) -> tuple[MatchedVerdicts, bool]:
    """The verdicts on today's patches, and whether each fold trains on a slide that has some.

    Bags are not kept: the evaluation reads them again.
    """
    reviewed = reviewed_bags(study, read_bags(study, quiet=quiet))
    bags, matched = reviewed.found.bags, reviewed.matched
    if matched is None:
        raise ConfigError(f"mining.verdicts is {study.config.mining.verdicts}; expected {REVIEW}; set it")
    cohort = study_cohort(study, bags=bags, matched=matched)
    folds = study_folds(study, cohort=cohort, left_out=reviewed.found.left_out)
    judged = [not np.isnan(matched.used[bag.slide_id]).all() for bag in bags]
    return matched, all(any(judged[i] for i in fold.train) for repeat in folds for fold in repeat)


def _with_drawn_folds(study: Study) -> tuple[Study, tuple[str, ...]]:
    """The study with drawn folds instead of those of its splits files, and a note on that."""
    config = study.config.evaluation
    if config.splits is None:
        return study, ()
    drawn = config.model_copy(update={"splits": None})
    note = (
        f"a fold of {config.splits} trains on no judged slide: {config.folds} folds by case are drawn "
        "instead, so that the verdicts can be used"
    )
    return replace(study, config=study.config.model_copy(update={"evaluation": drawn})), (note,)


def _round(study: Study, *, arms: ComparedArms, matched: MatchedVerdicts, run: EvaluationRun) -> Round:
    """The numbers of a round; its own number is not known yet (0)."""
    resampled = {one.key.arm: one for one in _resampled(study, run)}
    without, with_verdicts = (resampled.get(name) for name in (arms.without, arms.with_verdicts))
    if without is None or with_verdicts is None or not can_compare(without, with_verdicts):
        raise JobError(
            f"{run.folder}: the two arms were not run on the same slides, because trials failed; tracebacks "
            f"are in {run.log}; run the command again"
        )
    found = {(one.arm, one.metric): one for one in intervals([without, with_verdicts])}
    differences = {one.metric: one for one in compare(with_verdicts, without)}
    has_point = not np.isnan(found[arms.without, "fpr_op"].value)
    threshold = AT_OP if has_point else AT_HALF
    numbers: dict[str, float] = {}
    for name, metric in zip(("fpr", "sensitivity"), METRICS[threshold], strict=True):
        numbers |= _limits(name, found[arms.without, metric])
        numbers |= _limits(f"{name}_with", found[arms.with_verdicts, metric])
        one = differences[metric]
        numbers |= {
            f"{name}_difference": one.difference,
            f"{name}_difference_low": one.low,
            f"{name}_difference_high": one.high,
        }
    n_of = matched.n_of
    return Round(
        number=0,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        arm=arms.without,
        arm_with_verdicts=arms.with_verdicts,
        threshold=threshold,
        verdicts=reviewer_digest(matched.used),
        n_verdicts=sum(n_of.values()),
        n_lesion=n_of["lesion"],
        n_normal=n_of["normal"],
        n_artefact=n_of["artefact"],
        n_of_class={name: float(n) for name, n in matched.n_of_class.items()},
        **numbers,
    )


def _resampled(study: Study, run: EvaluationRun) -> list[ResampledArm]:
    """Each arm on resamples of its cases; with more than two classes, the means over them."""
    rows, task, seed = run.rows.predictions, study.config.task, study.config.seed
    if task.is_binary:
        return resample_arms(pool_predictions(rows, positive=study.slide_table.classes[1]), seed=seed)
    arms = resample_class_arms(pool_classes(rows, task=task), task=task, seed=seed)
    return [one for one in arms if one.key.class_name == MACRO]


def _limits(name: str, one: Interval) -> dict[str, float]:
    return {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}
