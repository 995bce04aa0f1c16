"""The bags that all trials of a study share, with what is known about their patches."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.bags.pseudonyms import Pseudonyms, renamed
from hardmil.config.mining import REVIEW
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.errors import ConfigError
from hardmil.evaluation.arms import Arm
from hardmil.evaluation.truth import Truth, kind_of_region, truth_of_regions, verdicts_of_truth
from hardmil.files.geojson import path_next_to, regions_next_to
from hardmil.mining.verdict_matching import MatchedVerdicts, match_verdicts, read_review
from hardmil.mining.verdicts import Reviewer, read_verdicts
from hardmil.preprocessing.study_folder import Study
from hardmil.slides.reader import origin_of


@dataclass(frozen=True, eq=False)
class Cohort:
    """The bags that all trials of a study share, and their hash.

    By slide_id: `truth` is what is known about each instance, for measurement only; `verdicts` are those of a
    person, for arms that use them.
    """

    bags: Sequence[Bag]
    digest: str
    truth: Mapping[str, Truth] = field(default_factory=dict)
    verdicts: Reviewer = field(default_factory=dict)

    @property
    def labels(self) -> np.ndarray:
        """The position of its class for each bag; of two, 1 is positive."""
        return np.array([bag.label for bag in self.bags])

    @property
    def cases(self) -> list[str]:
        """The case of each bag."""
        return [bag.case_id for bag in self.bags]

    def reviewer(self, bags: Sequence[Bag]) -> Reviewer:
        """The verdicts on the patches of these bags."""
        return {bag.slide_id: self.verdicts[bag.slide_id] for bag in bags if bag.slide_id in self.verdicts}

    def check_verdicts(self, arm: Arm, bags: Sequence[Bag]) -> None:
        """Check that an arm that uses verdicts can have some; a budget is spent on positive bags only.

        Raises:
            ConfigError: If no patch of these training bags has a verdict.
        """
        if not arm.uses_verdicts:
            return
        has_budget = arm.mining.verdict_budget is not None
        negative = arm.model.task.negative_label
        known = self.reviewer([bag for bag in bags if bag.label != negative or not has_budget])
        if all(np.isnan(values).all() for values in known.values()):
            slides = "positive training slides" if has_budget else "training slides"
            raise ConfigError(
                f"arm {arm.name}: no verdict on any patch of the training slides; expected a "
                f"table with verdicts on {slides}; set mining.verdicts, or add verdicts to it"
            )


def make_cohort(
    bags: Sequence[Bag],
    *,
    truth: Mapping[str, Truth] | None = None,
    verdicts: Reviewer | None = None,
    task: TaskConfig = TWO_CLASSES,
) -> Cohort:
    """A cohort; its hash changes with any id, label, coordinate or instance.

    Where truth is known and there are no verdicts, verdicts are those of the truth.
    """
    digest = hashlib.blake2b(digest_size=8)
    for bag in bags:
        digest.update(f"{bag.slide_id}\0{bag.case_id}\0{bag.label}\0{bag.instances.shape}\0".encode())
        digest.update(np.ascontiguousarray(bag.coords).data)
        digest.update(np.ascontiguousarray(bag.instances).data)
    truth = truth or {}
    if not verdicts:
        verdicts = verdicts_of_truth(truth, labels={bag.slide_id: bag.label for bag in bags}, task=task)
    return Cohort(bags, digest.hexdigest(), truth, verdicts)


def cases_by_class(cohort: Cohort, *, task: TaskConfig) -> dict[str, int]:
    """The number of cases with a slide of each class; if multi-label, also with a slide without it."""
    names = [*task.names, *(f"slides without {name}" for name in task.names if task.multi_label)]
    strata = task.strata(cohort.labels)
    return {
        name: len({case for case, is_in in zip(cohort.cases, strata[:, k].tolist(), strict=True) if is_in})
        for k, name in enumerate(names)
    }


def deidentified_cohort(cohort: Cohort, names: Pseudonyms) -> Cohort:
    """The cohort under pseudonyms; its hash is another one."""
    bags = [renamed(bag, names) for bag in cohort.bags]
    return make_cohort(bags, truth=names.by_slide(cohort.truth), verdicts=names.by_slide(cohort.verdicts))


def study_cohort(study: Study, *, bags: Sequence[Bag], matched: MatchedVerdicts | None = None) -> Cohort:
    """The bags with truth, which synthetic slides have next to them, and verdicts.

    Args:
        study: The study.
        bags: Its bags.
        matched: Verdicts of its review, if they were matched already; used where `mining.verdicts` is review.

    Raises:
        TableError: If the table of verdicts cannot be used.
        StoreError: If the review cannot be read.
    """
    source, verdicts = study.config.mining.verdicts, None
    if source == REVIEW:
        if matched is None:
            matched = match_verdicts(read_review(study.folder).verdicts, bags, task=study.config.task)
        verdicts = matched.used
    elif source is not None:
        verdicts = read_verdicts(study.folder / source, bags, task=study.config.task)
    return make_cohort(bags, truth=_truth(study, bags), verdicts=verdicts, task=study.config.task)


def _truth(study: Study, bags: Sequence[Bag]) -> dict[str, Truth]:
    paths = {row.slide_id: row.path for row in study.slide_table.rows}
    found: dict[str, Truth] = {}
    for bag in bags:
        path = paths[bag.slide_id]
        # The slide is opened, for its origin, only where there is something to read.
        if path is None or bag.size_level0_px == 0 or not path_next_to(path).exists():
            continue
        regions = regions_next_to(path, origin=origin_of(path))
        if regions is not None and all(kind_of_region(one.name) for one in regions):
            found[bag.slide_id] = truth_of_regions(bag, regions=regions)
    return found
