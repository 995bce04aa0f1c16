"""From rows of trials of more than two classes to the table of arms: MACRO, then each branch."""

from collections.abc import Mapping, Sequence

from hardmil.config.task import MACRO, TaskConfig
from hardmil.evaluation.results import ArmKey, PredictionRow, ResultRow
from hardmil.statistics.class_intervals import KAPPA, macro_values
from hardmil.statistics.class_predictions import PooledClasses, pool_classes
from hardmil.statistics.summary import (
    POOLED,
    ArmSummary,
    arm_summary,
    pooled_metrics,
    results_by_arm,
)


def summarise_classes(
    results: Sequence[ResultRow], *, predictions: Sequence[PredictionRow], task: TaskConfig
) -> list[ArmSummary]:
    """The table of arms, see `summarise`: of each arm, MACRO and then each branch against the rest.

    A branch has only the values that are measured on pooled predictions. What was mined is counted over all
    classes.

    Args:
        results: Rows of results.csv.
        predictions: Rows of predictions.csv of the same trials.
        task: The classes.
    """
    pooled = pool_classes(predictions, task=task)
    found: list[ArmSummary] = []
    for key, rows in results_by_arm(results).items():
        found += _of_arm(key, results=rows, pooled=pooled.get(key, []), task=task)
    return found


def _of_arm(
    key: ArmKey, *, results: Sequence[ResultRow], pooled: Sequence[PooledClasses], task: TaskConfig
) -> list[ArmSummary]:
    measured: dict[str, dict[int, Mapping[str, float]]] = {name: {} for name in (MACRO, *task.branch_names)}
    for repeat in pooled:
        by_branch = [pooled_metrics(one) for one in repeat.branches(task)]
        for name, values in zip(task.branch_names, by_branch, strict=True):
            measured[name][repeat.repeat] = values
        measured[MACRO][repeat.repeat] = macro_values(by_branch, repeat=repeat, task=task)
    return [
        arm_summary(
            key._replace(class_name=name),
            results=results,
            measured=values,
            names=pooled_names(task),
            with_trials=name == MACRO,
        )
        for name, values in measured.items()
    ]


def pooled_names(task: TaskConfig) -> tuple[str, ...]:
    """The values that are measured on the pooled predictions of a repeat."""
    return (*POOLED, KAPPA) if task.ordinal else POOLED
