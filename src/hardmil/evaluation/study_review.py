"""What the review of a study changes in its training: verdicts on patches, and slides in doubt."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hardmil.config.mining import REVIEW
from hardmil.errors import BagError
from hardmil.mining.verdict_matching import (
    MatchedVerdicts,
    Review,
    SlideDoubt,
    doubted_slides,
    match_verdicts,
    read_review,
)
from hardmil.preprocessing.study_folder import Study, StudyBags
from hardmil.words import count

MOST_DOUBTS = 20
"""Slides in doubt that a note lists; `hardmil doctor` lists all."""


@dataclass(frozen=True, eq=False)
class ReviewedBags:
    """The bags of a study after its review: those that are used, with the verdicts on them.

    `matched` is None where `mining.verdicts` is not "review".
    """

    found: StudyBags
    matched: MatchedVerdicts | None
    doubts: Sequence[SlideDoubt]

    def notes(self, *, uses_verdicts: bool) -> list[str]:
        """What a user should know about bags and review; of the verdicts only where an arm uses them."""
        notes = [*self.found.notes, *_doubt_notes(self.doubts, left_out=self.found.doubted)]
        return notes + (self.matched.notes if self.matched and uses_verdicts else [])


def study_doubts(study: Study, review: Review) -> list[SlideDoubt]:
    """The slides of a study whose label or quality is in doubt."""
    labels = {row.slide_id: study.slide_table.class_index(row) for row in study.slide_table.rows}
    doubts = doubted_slides(review, labels=labels, task=study.config.task)
    return [one for one in doubts if one.slide_id in labels]


def reviewed_bags(study: Study, found: StudyBags) -> ReviewedBags:
    """The bags with the verdicts on them, without slides in doubt if `mining.leave_out_doubted` is set.

    Raises:
        StoreError: If the review cannot be read.
        BagError: If all slides are in doubt and left out.
    """
    review = read_review(study.folder)
    doubts = study_doubts(study, review)
    if study.config.mining.leave_out_doubted:
        found = _without(found, {one.slide_id for one in doubts})
    matched = None
    if study.config.mining.verdicts == REVIEW:
        matched = match_verdicts(review.verdicts, found.bags, task=study.config.task)
    return ReviewedBags(found, matched, doubts)


def _without(found: StudyBags, doubted: set[str]) -> StudyBags:
    bags = [bag for bag in found.bags if bag.slide_id not in doubted]
    if not bags:
        raise BagError(
            f"all {count(len(found.bags), 'slide')} are in doubt by their review; expected others; set "
            "mining.leave_out_doubted: false, or correct the labels"
        )
    left_out = tuple(bag.slide_id for bag in found.bags if bag.slide_id in doubted)
    return replace(found, bags=bags, doubted=left_out)


def _doubt_notes(doubts: Sequence[SlideDoubt], *, left_out: Sequence[str]) -> list[str]:
    if not doubts:
        return []
    n = len({one.slide_id for one in doubts})
    what = "left out" if left_out else "used as they are; mining.leave_out_doubted: true leaves them out"
    more = [f"  and {len(doubts) - MOST_DOUBTS} more: hardmil doctor"] if len(doubts) > MOST_DOUBTS else []
    lines = [f"  {one.words}" for one in doubts[:MOST_DOUBTS]]
    return [f"review: {count(n, 'slide')} in doubt, {what}:", *lines, *more]
