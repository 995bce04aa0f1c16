"""`hardmil doctor [STUDY]`: check the installation, and a study."""

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hardmil.checks.installation import EXTRAS, Installation, inspect_installation
from hardmil.checks.settings import check_settings, failures_of
from hardmil.checks.study import SAME_PATCHES, MatchingPair, StudyCheck, check_study
from hardmil.config.task import NONE
from hardmil.errors import HardmilError
from hardmil.evaluation.arms import check_arms
from hardmil.evaluation.study_review import study_doubts
from hardmil.jobs.failures import Failure
from hardmil.jobs.outcome import Outcome
from hardmil.mining.verdict_matching import read_review
from hardmil.preprocessing.study_folder import Study, open_study
from hardmil.words import count

MAX_LINES = 100
"""Number of pairs printed; --json lists all."""


def doctor(path: Path | None = None, *, overrides: Sequence[str] = (), quiet: bool = True) -> Outcome:
    """Say what is installed; with a study, what it contains and what is wrong with it."""
    installation = inspect_installation()
    lines, values = _installation_lines(installation), asdict(installation)
    if path is None:
        return Outcome(lines, values)
    try:
        study = open_study(path, overrides=overrides)
        found = check_study(study, quiet=quiet)
        doubts = study_doubts(study, read_review(study.folder))
    except HardmilError as error:
        return Outcome(lines, values, [Failure(name=str(path), message=str(error), traceback="")])
    arms = (study.config.arm, *study.config.evaluation.arms)
    failures = [
        *failures_of("arms", lambda: check_arms(arms, study=study.config)),
        *check_settings(study),
        *found.failures,
    ]
    lines += [*_study_lines(found), *(f"in doubt           {one.words}" for one in doubts)]
    values |= {"study": _study_values(found) | {"in_doubt": [asdict(one) for one in doubts]}}
    return Outcome(lines, values, failures)


def _installation_lines(found: Installation) -> list[str]:
    return [
        f"python {platform.python_version()} on {platform.platform()}",
        *(f"{name:18} {status}" for name, status in found.versions.items()),
        *(f"{extra:18} {found.extras[name]}" for name, (extra, _) in EXTRAS.items()),
        *(f"reader {name:11} {status}" for name, status in found.readers.items()),
        *(f"device {name:11} {status}" for name, status in found.devices.items()),
        *(f"encoder {name:18} {status}" for name, status in found.encoders.items()),
    ]


def _study_lines(found: StudyCheck) -> list[str]:
    return [
        *_table_lines(found.study),
        *_slide_lines(len(found.study.slide_table.rows), found.n_with_path, found.n_read),
        *(f"note               {name}: {note}" for name, some in found.notes.items() for note in some),
        *(_pair_lines(found.pairs, found.groups) if found.n_with_path or found.n_bags else []),
    ]


def _study_values(found: StudyCheck) -> dict[str, object]:
    rows, classes = found.study.slide_table.rows, _counts(found.study)
    return {
        "slides": len(rows),
        "cases": len({row.case_id for row in rows}),
        "duplicates": [{**asdict(pair), "is_leak": pair.is_leak} for pair in found.pairs],
        "one_case_each": found.groups,
        "notes": {name: list(some) for name, some in found.notes.items()},
        **({"classes": classes} if classes else {}),
    }


def _table_lines(study: Study) -> list[str]:
    rows = study.slide_table.rows
    n_of = Counter(row.label for row in rows)
    of_classes = {name: one["slides"] for name, one in _counts(study).items()} or n_of
    labels = ", ".join(f"{of_classes[label]} {label}" for label in study.slide_table.classes)
    cases = {row.case_id for row in rows}
    labels_of = Counter(case_id for case_id, _ in {(row.case_id, row.label) for row in rows})
    n_mixed, task = sum(n > 1 for n in labels_of.values()), study.config.task
    if task.multi_label:
        labels += f", {n_of[NONE]} {NONE}"
    several = "both labels" if task.is_binary else "several labels"
    mixed = f"; {count(n_mixed, 'case')} with {several}, which is allowed" if n_mixed else ""
    slides = f"{count(len(rows), 'slide')} ({labels}) of {count(len(cases), 'case')}"
    of_labels = _class_lines(study) if task.names else [f"positive           {study.slide_table.classes[-1]}"]
    return [f"study              {slides}{mixed}", *of_labels]


def _class_lines(study: Study) -> list[str]:
    """The classes, and the number of slides and cases of each."""
    task = study.config.task
    order = "from low to high" if task.ordinal else f"negative {task.negative or 'none'}"
    if task.multi_label:
        order = "a slide may have several"
    return [
        f"classes            {', '.join(task.names)} ({order})",
        *(
            f"class              {name}: {count(one['slides'], 'slide')} of {count(one['cases'], 'case')}"
            for name, one in _counts(study).items()
        ),
    ]


def _counts(study: Study) -> dict[str, dict[str, int]]:
    """The number of slides and of cases of each class; empty where there are two."""
    rows, task = study.slide_table.rows, study.config.task
    is_in = task.strata(np.array([study.slide_table.class_index(row) for row in rows]))
    of_class = {
        name: [row for row, is_of in zip(rows, is_in[:, k].tolist(), strict=True) if is_of]
        for k, name in enumerate(task.names)
    }
    return {
        name: {"slides": len(rows), "cases": len({row.case_id for row in rows})}
        for name, rows in of_class.items()
    }


def _slide_lines(n_rows: int, n_with_path: int, n_read: int) -> list[str]:
    lines = [f"slides             {n_read} of {n_with_path} can be read"] if n_with_path else []
    if n_rows > n_with_path:
        left = count(n_rows - n_with_path, "slide")
        lines.append(f"slides             {left} without a path: not checked; fill in the path column")
    return lines


def _pair_lines(pairs: Sequence[MatchingPair], groups: Sequence[Sequence[str]]) -> list[str]:
    leaks = [pair for pair in pairs if pair.is_leak]
    n_within = len(pairs) - len(leaks)
    lines = [_pair_line(pair) for pair in leaks[:MAX_LINES]]
    if len(leaks) > MAX_LINES:
        lines.append(f"                   and {len(leaks) - MAX_LINES} more: --json lists all")
    lines += [f"one case           {', '.join(group)}" for group in groups]
    apart = f"{count(len(leaks), 'pair')} in different cases"
    return [*lines, f"duplicates         {apart}, {n_within} within one"]


def _pair_line(pair: MatchingPair) -> str:
    """How the two slides are related."""
    a, b = f"{pair.slide_a} (case {pair.case_a})", f"{pair.slide_b} (case {pair.case_b})"
    if pair.kind == "abutting":
        return f"abutting           {b} is {pair.b_is} {a}, edges correlate {pair.score:.2f}"
    if pair.kind == SAME_PATCHES:
        return (
            f"same patches       {b} is {pair.b_is} to {a}, {pair.score:.0%} of those compared are the same"
        )
    return f"near-duplicate     {b} is {a}, {pair.b_is}, match {pair.score:.2f}"
