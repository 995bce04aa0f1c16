from pathlib import Path

import pytest
from tests.support.class_reviews import class_review as class_review
from tests.support.class_reviews import multi_review as multi_review

from hardmil.mining.verdict_store import JudgedPatch, SlideRemark, StoredVerdict
from hardmil.preprocessing.study_folder import Study
from hardmil.review.cases import review_cases
from hardmil.review.held_out_slides import BranchCall, ErrorKind, HeldOut, ReviewSlide, read_held_out

pytestmark = pytest.mark.slow


def _slide(name: str, case: str, label: str, score: float, error: ErrorKind = "") -> ReviewSlide:
    call = BranchCall(score, 0.5, score - 0.5, score > 0.5, label == "tumour")
    return ReviewSlide(
        *(name, case, label, None, None, score, (call,), "", error, 10, 64),
        attention_file=Path("attention.h5"),
    )


HELD_OUT = HeldOut(
    *("main", "ours", ("normal", "tumour")),
    slides=[
        _slide("s0", "right", "normal", 0.1),
        _slide("s1", "near", "normal", 0.6, "false positive"),
        _slide("s2", "far", "tumour", 0.9),
        _slide("s3", "far", "tumour", 0.1, "false negative"),
        _slide("s4", "lesion", "normal", 0.2),
        _slide("s5", "remark", "tumour", 0.9),
    ],
    notes=[],
)


def _verdict(reviewer: str, slide: str, x: int, verdict: str) -> StoredVerdict:
    return StoredVerdict(1, "", reviewer, JudgedPatch(slide, x, 0, 64), verdict, "queue", None, False, 1)


def test_cases_with_an_error_a_remark_or_a_lesion_are_listed_worst_first():
    verdicts = [
        _verdict("jo", "s4", 0, "lesion"),
        _verdict("al", "s4", 0, "lesion"),
        _verdict("jo", "s4", 64, "lesion"),
        _verdict("jo", "s0", 0, "normal"),
        _verdict("jo", "s5", 0, "lesion"),
    ]
    remark = SlideRemark(1, "", "jo", "s5", "poor quality", "")
    found = review_cases(HELD_OUT, verdicts=verdicts, remarks=[remark])
    assert [(case.case_id, round(case.margin, 3)) for case in found] == [
        *[("far", 0.4), ("near", 0.1)],
        *[("lesion", 0.0), ("remark", 0.0)],
    ]
    # Both slides of a case are shown; a patch counts once, and only in negative slides.
    assert [[(one.number, one.contradicting) for one in case.slides] for case in found] == [
        *[[(2, {}), (3, {})], [(1, {})]],
        *[[(4, {"lesion": 2})], [(5, {})]],
    ]
    assert [one.remarks for one in found[3].slides] == [(remark,)]


def test_without_errors_and_remarks_there_is_nothing_to_list():
    right = HeldOut("main", "ours", ("normal", "tumour"), slides=HELD_OUT.slides[:1], notes=[])
    assert review_cases(right, verdicts=[], remarks=[]) == []


def test_cases_of_a_class_are_those_wrongly_called_so(class_review: Study):
    held_out = read_held_out(class_review)
    for branch, name in enumerate(held_out.task.branch_names):
        cases = review_cases(held_out, verdicts=[], remarks=[], branch=branch)
        shown = {one.slide.slide_id for case in cases for one in case.slides}
        wrong = {one.slide_id for one in held_out.slides if one.prediction == name != one.label}
        assert shown == wrong != set()
    margins = [case.margin for case in review_cases(held_out, verdicts=[], remarks=[])]
    assert margins == sorted(margins, reverse=True)


def test_a_patch_of_another_class_than_the_label_is_counted(class_review: Study):
    held_out = read_held_out(class_review)
    slide = next(one for one in held_out.slides if one.label == "a" and not one.error)
    said = [_verdict("jo", slide.slide_id, x, "b") for x in (0, 64)]
    said += [_verdict("jo", slide.slide_id, 128, word) for word in ("a", "normal", "unsure")]
    cases = review_cases(held_out, verdicts=said, remarks=[])
    (found,) = (one for case in cases for one in case.slides if one.slide == slide)
    assert found.contradicting == {"b": 2}


def test_with_several_labels_each_class_has_the_cases_that_were_wrongly_called_it(multi_review: Study):
    held_out = read_held_out(multi_review)
    for branch, name in enumerate("abc"):
        cases = review_cases(held_out, verdicts=[], remarks=[], branch=branch)
        shown = {one.slide.slide_id for case in cases for one in case.slides}
        wrong = {
            one.slide_id
            for one in held_out.slides
            if name in one.prediction.split(" + ") and name not in one.label.split(" + ")
        }
        assert shown == wrong != set()


def test_a_class_that_a_slide_of_several_lacks_is_counted(multi_review: Study):
    held_out = read_held_out(multi_review)
    slide = next(one for one in held_out.slides if one.label == "b + c")
    said = [_verdict("jo", slide.slide_id, x, "a") for x in (0, 64)]
    said += [_verdict("jo", slide.slide_id, 128, word) for word in ("b", "c", "normal", "unsure")]
    cases = review_cases(held_out, verdicts=said, remarks=[])
    (found,) = (one for case in cases for one in case.slides if one.slide == slide)
    assert found.contradicting == {"a": 2}
