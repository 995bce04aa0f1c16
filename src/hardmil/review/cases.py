"""The cases with an error in the evaluation, or with a remark, and what was said of their slides."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hardmil.mining.verdict_matching import puts_in_doubt
from hardmil.mining.verdict_store import SlideRemark, StoredVerdict
from hardmil.review.held_out_slides import HeldOut, ReviewSlide


@dataclass(frozen=True)
class CaseSlide:
    """A slide of a case: its number in the workspace, the remarks on it, and verdicts against its label.

    `contradicting` counts, by verdict, the patches in which something was found that the label rules out: a
    lesion in a negative slide; of more than two classes, a class that the slide cannot hold.
    """

    number: int
    slide: ReviewSlide
    remarks: Sequence[SlideRemark]
    contradicting: Mapping[str, int]


@dataclass(frozen=True)
class ReviewCase:
    """A case and its slides in the order of the table."""

    case_id: str
    slides: Sequence[CaseSlide]

    @property
    def margin(self) -> float:
        """How far the worst error of its slides is from the threshold; 0 without an error."""
        return max((one.slide.surprise for one in self.slides if one.slide.error), default=0.0)


def review_cases(
    held_out: HeldOut,
    *,
    verdicts: Iterable[StoredVerdict],
    remarks: Iterable[SlideRemark],
    branch: int | None = None,
) -> list[ReviewCase]:
    """The cases with a false positive, a false negative, a remark or a doubted label; largest error first.

    Args:
        held_out: Slides of the evaluation.
        verdicts: Standing verdicts.
        remarks: Standing remarks.
        branch: Only the slides that this branch says yes to and that are not of its class; None: all.
    """
    said: dict[str, list[SlideRemark]] = {}
    for remark in remarks:
        said.setdefault(remark.slide_id, []).append(remark)
    judged: dict[str, dict[str, set[tuple[int, int]]]] = {}
    for one in verdicts:
        places = judged.setdefault(one.patch.slide_id, {}).setdefault(one.verdict, set())
        places.add((one.patch.x, one.patch.y))
    cases: dict[str, list[CaseSlide]] = {}
    for number, slide in enumerate(held_out.slides):
        if branch is not None and not slide.calls[branch].is_alarm:
            continue
        contradicting = {
            verdict: len(places)
            for verdict, places in judged.get(slide.slide_id, {}).items()
            if puts_in_doubt(verdict, label=held_out.label(slide), task=held_out.task)
        }
        here = CaseSlide(number, slide, tuple(said.get(slide.slide_id, ())), contradicting)
        cases.setdefault(slide.case_id, []).append(here)
    found = [ReviewCase(case_id, tuple(slides)) for case_id, slides in cases.items()]
    listed = [
        case
        for case in found
        if any(one.slide.error or one.remarks or one.contradicting for one in case.slides)
    ]
    return sorted(listed, key=lambda case: -case.margin)
