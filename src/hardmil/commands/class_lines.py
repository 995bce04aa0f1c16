"""The numbers of more than two classes, for the terminal and for scripts."""

import math
from collections.abc import Mapping, Sequence

from hardmil.commands.arms_table import align, arms_values, short
from hardmil.config.task import TaskConfig
from hardmil.statistics.class_intervals import KAPPA
from hardmil.statistics.intervals import Interval
from hardmil.statistics.tables import Statistics

PREDICTED = {"pooled_accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy", KAPPA: "Kappa"}
OF_A_CLASS = {"pooled_auc": "AUC (pooled)", "fpr_op": "FPR@op", "sens_op": "Sens@op"}


def classes_line(classes: Sequence[str], *, task: TaskConfig) -> str:
    """The classes of a study, in one line."""
    if task.is_binary:
        return f"positive label: {classes[-1]}"
    if task.ordinal:
        return f"classes, the lowest first: {', '.join(classes)}"
    if task.multi_label:
        return f"classes, of which a slide may have several: {', '.join(classes)}"
    return f"classes: {', '.join(classes)}" + (f"; negative: {task.negative}" if task.negative else "")


def class_lines(found: Statistics, *, task: TaskConfig) -> list[str]:
    """How to read means over classes, the predicted class of each arm, and each class of each arm.

    None with two classes.
    """
    if task.is_binary:
        return []
    arms = list(dict.fromkeys(one.arm for one in found.summary))
    what, predicted = "classes, each against the rest", "that of the predicted class"
    if task.ordinal:
        what = 'steps of the order, each "this class or higher"'
    if task.multi_label:
        what, predicted = "classes", "the share of slides of which all classes are predicted right"
    return [
        "",
        f"above: accuracy is {predicted}; all other numbers are means over the {what}",
        "",
        f"predicted {'classes' if task.multi_label else 'class'}, with 95% interval by case:",
        *_table(["arm"], [((arm,), found.whole.intervals, arm) for arm in arms], columns=PREDICTED),
        "",
        "by class, with 95% interval by case:",
        *_table(
            ["class", "arm"],
            [
                ((title, arm), found.of(name).intervals, arm)
                for name, title in zip(task.branch_names, task.branch_titles, strict=True)
                for arm in arms
            ],
            columns=OF_A_CLASS,
        ),
    ]


def class_values(found: Statistics, *, task: TaskConfig) -> dict[str, object]:
    """The numbers of each class for --json; nothing with two classes."""
    if task.is_binary:
        return {}
    return {"classes": {name: arms_values(found.of(name).summary) for name in task.branch_names}}


def _table(
    heads: Sequence[str],
    rows: Sequence[tuple[tuple[str, ...], Sequence[Interval], str]],
    *,
    columns: Mapping[str, str],
) -> list[str]:
    """One line for each (first cells, intervals, arm); columns that no row has are left out."""
    values = [{one.metric: one for one in intervals if one.arm == arm} for _, intervals, arm in rows]
    shown = {key: name for key, name in columns.items() if any(key in one for one in values)}
    lines = [
        [*first, *(_cell(one.get(key)) for key in shown)]
        for (first, _, _), one in zip(rows, values, strict=True)
    ]
    return align([[*heads, *shown.values()], *lines])


def _cell(one: Interval | None) -> str:
    if one is None or math.isnan(one.value):
        return "-"
    limits = "" if math.isnan(one.low) else f" [{short(one.low)}, {short(one.high)}]"
    return f"{short(one.value)}{limits}"
