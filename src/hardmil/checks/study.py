"""The checks of `hardmil doctor STUDY`: table, folds, slides, and what different cases share."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hardmil.bags.bag_file import read_bag
from hardmil.bags.feature_folder import find_feature_file, read_features
from hardmil.bags.folds import check_classes, check_folds, repeated_folds
from hardmil.bags.slide_table import SlideRow
from hardmil.bags.split_files import read_splits
from hardmil.checks.copies import IDENTICAL, BagSignature, bag_signature, similar_bags
from hardmil.checks.duplicates import ImageMatch, Signature, matching_pairs, slide_signature
from hardmil.errors import HardmilError
from hardmil.jobs.failures import Failure
from hardmil.jobs.run import JobResults, run_jobs
from hardmil.preprocessing.annotations import check_annotated_classes
from hardmil.preprocessing.patch_coords import open_slide_of_row, segment_and_place
from hardmil.preprocessing.study_folder import Study, slide_name
from hardmil.slides.notes import few_patches_note, slide_notes
from hardmil.words import count

_TCGA_PATIENT = re.compile(r"TCGA-\w{2}-\w{4}(?=-|$)")
"""The patient in the id of a slide: project, site and participant."""


SAME_PATCHES = "same patches"


@dataclass(frozen=True)
class MatchingPair:
    """Two near-duplicate or adjacent pictures, or slides with the same patches, and their cases."""

    kind: str
    slide_a: str
    case_a: str
    slide_b: str
    case_b: str
    b_is: str
    score: float

    @property
    def is_leak(self) -> bool:
        """Whether folds by case may separate the two."""
        return self.case_a != self.case_b


@dataclass(frozen=True)
class StudyCheck:
    """What a study contains, and its problems as failures.

    `n_with_path` slides have a path, and `n_read` of these can be read; `n_bags` have a bag. `groups` are
    cases that should be one case.
    """

    study: Study
    n_with_path: int
    n_read: int
    n_bags: int
    pairs: Sequence[MatchingPair]
    groups: Sequence[Sequence[str]]
    notes: Mapping[str, Sequence[str]]
    failures: Sequence[Failure]


def check_study(study: Study, *, quiet: bool = False) -> StudyCheck:
    """A summary of a study, with its problems as failures; writes nothing.

    Problems are folds that cannot be drawn or that leak, slides and feature files that cannot be read, and
    near-duplicate or adjacent pictures, or bags with the same patches, in different cases. Those within a
    case are only counted, unless their features are identical.
    """
    rows = study.slide_table.rows
    with_path = [row for row in rows if row.path is not None]
    done = run_jobs(
        lambda row: _inspect(study, row), with_path, name=slide_name, label="reading slides", quiet=quiet
    )
    bags = _bag_signatures(study, quiet=quiet)
    pictures = find_pairs({name: seen.signature for name, seen in done.results.items()}, rows)
    pairs = _with_bag_pairs(pictures, find_bag_pairs(bags.results, rows))
    return StudyCheck(
        study=study,
        n_with_path=len(with_path),
        n_read=len(done.results),
        n_bags=len(bags.results),
        pairs=pairs,
        groups=leaking_groups(pairs),
        notes={name: seen.notes for name, seen in done.results.items() if seen.notes},
        failures=[
            *_check_folds(study),
            *patient_failures(rows),
            *_check_annotations(study),
            *done.failures,
            *bags.failures,
            *_identical(pairs),
            *_leaks(pairs),
        ],
    )


@dataclass(frozen=True)
class SlideInspection:
    """The signature of a slide that can be used, and notes on it."""

    signature: Signature
    notes: tuple[str, ...]


def _inspect(study: Study, row: SlideRow) -> SlideInspection:
    """The inspection of a slide; an error if it cannot be read at the study's resolution."""
    with open_slide_of_row(row) as slide:
        config = study.config.patches
        notes = slide_notes(slide, mpp=row.mpp, config=config)
        if study.config.features is None:
            _, grid = segment_and_place(slide, row, config=config)
            notes += few_patches_note(len(grid), config=config)
            notes += [] if len(grid) else [f"no patch has {config.min_tissue:.0%} tissue"]
        return SlideInspection(slide_signature(slide), tuple(notes))


def _check_folds(study: Study) -> list[Failure]:
    """Why the study's folds cannot be drawn or read without a leak; empty if they can."""
    rows, wanted = study.slide_table.rows, study.config.evaluation
    cases = [row.case_id for row in rows]
    task = study.config.task
    labels = task.fold_labels(np.array([study.slide_table.class_index(row) for row in rows]))
    try:
        if wanted.splits is not None:
            folds = read_splits(study.folder / wanted.splits, [row.slide_id for row in rows])
            check_folds(folds, cases)
            check_classes(folds, labels, names=task.names)
        else:
            repeated_folds(
                labels, cases, n_folds=wanted.folds, n_repeats=1, seed=study.config.seed, names=task.names
            )
    except HardmilError as error:
        return [Failure(name="folds", message=str(error), traceback="")]
    return []


def patient_failures(rows: Iterable[SlideRow]) -> list[Failure]:
    """A failure if slides of a patient, as the ids of TCGA name it, are in different cases."""
    cases: dict[str, dict[str, str]] = {}
    for row in rows:
        patient = _TCGA_PATIENT.match(row.slide_id)
        if patient:
            cases.setdefault(patient.group(), {}).setdefault(row.case_id, row.slide_id)
    split = {patient: found for patient, found in cases.items() if len(found) > 1}
    if not split:
        return []
    patient, found = next(iter(split.items()))
    message = (
        f"slides of {count(len(split), 'TCGA patient')} are in different cases: folds by case may train on "
        f"one and test on the other; first {', '.join(list(found.values())[:2])}; give both case_id {patient}"
    )
    return [Failure(name="cases", message=message, traceback="")]


def _check_annotations(study: Study) -> list[Failure]:
    """Why the study's annotations do not fit its settings; empty if they do."""
    try:
        check_annotated_classes(study)
    except HardmilError as error:
        return [Failure(name="annotations", message=str(error), traceback="")]
    return []


def find_pairs(signatures: Mapping[str, Signature], rows: Iterable[SlideRow]) -> list[MatchingPair]:
    """All pairs of near-duplicate and adjacent pictures, also within a case, most certain first."""
    names = list(signatures)
    cases = {row.slide_id: row.case_id for row in rows}

    def named(pair: ImageMatch) -> MatchingPair:
        a, b = names[pair.first], names[pair.second]
        return MatchingPair(pair.kind, a, cases[a], b, cases[b], pair.how, round(pair.score, 3))

    return [named(pair) for pair in matching_pairs(list(signatures.values()))]


def _bag_signatures(study: Study, *, quiet: bool) -> JobResults[BagSignature]:
    """The signatures of the study's bags; slides that `encode` has not reached yet are left out."""
    rows, config = study.slide_table.rows, study.config

    def signature(row: SlideRow) -> BagSignature:
        if config.features is None:
            path = study.bag_path(row.slide_id)
            return bag_signature(read_bag(path, case_id=row.case_id, label=-1, slide_id=row.slide_id))
        path = find_feature_file(study.folder / config.features, slide_id=row.slide_id)
        return bag_signature(read_features(path, row, label=-1))

    if config.features is not None:
        return run_jobs(signature, rows, name=slide_name, label="reading features", quiet=quiet)
    encoded = [row for row in rows if study.bag_path(row.slide_id).exists()]
    done = run_jobs(signature, encoded, name=slide_name, label="reading bags", quiet=quiet)
    return JobResults(done.results)  # `encode` makes a bag again that is damaged or empty


def find_bag_pairs(signatures: Mapping[str, BagSignature], rows: Iterable[SlideRow]) -> list[MatchingPair]:
    """All pairs of slides with the same patches, also within a case, most certain first."""
    names = list(signatures)
    cases = {row.slide_id: row.case_id for row in rows}
    return [
        MatchingPair(SAME_PATCHES, a, cases[a], b, cases[b], one.kind, round(one.share, 3))
        for one in similar_bags(list(signatures.values()))
        for a, b in [(names[one.first], names[one.second])]
    ]


def _with_bag_pairs(pictures: Sequence[MatchingPair], bags: Sequence[MatchingPair]) -> list[MatchingPair]:
    """Each pair of slides once: near-duplicate pictures have the same patches, too."""
    known = {frozenset((pair.slide_a, pair.slide_b)) for pair in pictures}
    return [*pictures, *(pair for pair in bags if frozenset((pair.slide_a, pair.slide_b)) not in known)]


def _identical(pairs: Iterable[MatchingPair]) -> list[Failure]:
    """A failure for each slide whose features are those of an earlier one."""
    return [
        Failure(
            name=pair.slide_b,
            message=f"its features are identical to those of {pair.slide_a}; expected those of its own "
            "slide; one file was copied under two names, or one slide is listed twice: correct the file, or "
            "remove a row",
            traceback="",
        )
        for pair in pairs
        if pair.b_is == IDENTICAL
    ]


def leaking_groups(pairs: Iterable[MatchingPair]) -> list[list[str]]:
    """Groups of cases that should be one case: those connected by pairs, directly or through others."""
    groups: dict[str, list[str]] = {}
    for pair in pairs:
        one, other = (groups.get(case, [case]) for case in (pair.case_a, pair.case_b))
        if pair.is_leak and one is not other:
            merged = one + other
            groups |= dict.fromkeys(merged, merged)
    return sorted(sorted(group) for case, group in groups.items() if case == group[0])


def _leaks(pairs: Sequence[MatchingPair]) -> list[Failure]:
    n = sum(pair.is_leak for pair in pairs)
    if not n:
        return []
    message = (
        f"{count(n, 'pair')} of near-duplicates, adjacent pictures or slides with the same patches in "
        "different cases: folds by case may train on one and test on the other; give them one case_id in "
        "slides.csv (the groups are listed), or remove one of two duplicates"
    )
    return [Failure(name="cases", message=message, traceback="")]
