"""The cases with an error in the evaluation, or with a remark, and what was said of their slides."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hardmil.mining.verdict_store import SlideRemark, StoredVerdict
from hardmil.review.held_out_slides import HeldOut, ReviewSlide


@dataclass(frozen=True)
class CaseSlide:
    """A slide of a case: its number in the workspace, the remarks on it, and its lesion verdicts.

    `n_lesions` counts the patches of a negative slide that were judged lesions; 0 for positive slides.
    """

    number: int
    slide: ReviewSlide
    remarks: Sequence[SlideRemark]
    n_lesions: int


@dataclass(frozen=True)
class ReviewCase:
    """A case and its slides in the order of the table."""

    case_id: str
    slides: Sequence[CaseSlide]

    @property
    def margin(self) -> float:
        """How far the worst error of its slides is from the threshold; 0 without an error."""
        errors = (one.slide for one in self.slides if one.slide.error)
        return max((abs(slide.bag_score - slide.threshold) for slide in errors), default=0.0)


def review_cases(
    held_out: HeldOut, *, verdicts: Iterable[StoredVerdict], remarks: Iterable[SlideRemark]
) -> list[ReviewCase]:
    """The cases with a false positive, a false negative, a remark or a doubted label; largest error first.

    Args:
        held_out: Slides of the evaluation.
        verdicts: Standing verdicts.
        remarks: Standing remarks.
    """
    said: dict[str, list[SlideRemark]] = {}
    for remark in remarks:
        said.setdefault(remark.slide_id, []).append(remark)
    lesions: dict[str, set[tuple[int, int]]] = {}
    for one in verdicts:
        if one.verdict == "lesion":
            lesions.setdefault(one.patch.slide_id, set()).add((one.patch.x, one.patch.y))
    cases: dict[str, list[CaseSlide]] = {}
    for number, slide in enumerate(held_out.slides):
        n_lesions = len(lesions.get(slide.slide_id, ())) if slide.label == held_out.negative else 0
        here = CaseSlide(number, slide, tuple(said.get(slide.slide_id, ())), n_lesions)
        cases.setdefault(slide.case_id, []).append(here)
    found = [ReviewCase(case_id, tuple(slides)) for case_id, slides in cases.items()]
    listed = [
        case for case in found if any(one.slide.error or one.remarks or one.n_lesions for one in case.slides)
    ]
    return sorted(listed, key=lambda case: -case.margin)
