"""The numbers of each class on report.html, where there are more than two."""

import re

from hardmil.config.task import TaskConfig
from hardmil.report.curves import arms_drawn
from hardmil.report.page_data import CLASS_GROUPS, Estimate, EstimateRow, ReportClasses
from hardmil.statistics.claims import claim_words
from hardmil.statistics.tables import Statistics

COLUMNS = tuple(key for group in CLASS_GROUPS for key in group.columns)

MAX_ROWS = 24


def report_classes(statistics: Statistics, *, arm: str, task: TaskConfig) -> list[ReportClasses]:
    """One table for each split and kind of patches: each class against the rest, of all arms if they are few.

    Otherwise of `arm`, its base and its control.

    Args:
        statistics: The numbers of all classes.
        arm: The arm that the page shows slide by slide.
        task: The classes.
    """
    summary = statistics.summary
    settings = dict.fromkeys((one.split, one.patches) for one in summary)
    arms = list(dict.fromkeys(one.arm for one in summary))
    if len(arms) * task.n_branches > MAX_ROWS:
        arms = arms_drawn(arms, arm=arm)
    return [
        _table(statistics, setting=setting, arms=arms, task=task, is_alone=len(settings) == 1)
        for setting in settings
    ]


def _table(
    statistics: Statistics, *, setting: tuple[str, str], arms: list[str], task: TaskConfig, is_alone: bool
) -> ReportClasses:
    values: dict[tuple[str, str], dict[str, Estimate]] = {}
    for one in statistics.intervals:
        if (one.split, one.patches) == setting and one.metric in COLUMNS:
            of_arm = values.setdefault((one.class_name, one.arm), {})
            of_arm[one.metric] = Estimate(one.value, one.low, one.high)
    rows = [
        EstimateRow(title, values[name, arm], note=arm)
        for name, title in zip(task.branch_names, task.branch_titles, strict=True)
        for arm in arms
        if (name, arm) in values
    ]
    split, patches = setting
    return ReportClasses(
        title="" if is_alone else f"split by {split}, patches {patches}",
        rows=rows,
        findings=_findings(statistics, setting=setting, task=task),
    )


def _findings(statistics: Statistics, *, setting: tuple[str, str], task: TaskConfig) -> list[str]:
    """The decided claims of each class as sentences."""
    found: list[str] = []
    for name, title in zip(task.branch_names, task.branch_titles, strict=True):
        for one in statistics.of(name).claims:
            if (one.split, one.patches) == setting and one.verdict != "not decided" and not one.is_same:
                words = f"{title}: {claim_words(one)}."
                found.append(re.sub(r"-(?=\d\.)", "−", words))
    return found
