from pathlib import Path

import numpy as np
import pytest
from tests.support.reviews import SIZE, write_reviewed_study

from hardmil.errors import BagError
from hardmil.evaluation.arms import arm
from hardmil.evaluation.cohort import study_cohort
from hardmil.evaluation.study_folds import study_folds
from hardmil.evaluation.study_review import reviewed_bags
from hardmil.evaluation.trial import Trial
from hardmil.mining.verdict_store import JudgedPatch, NewVerdict, Verdict, VerdictStore
from hardmil.preprocessing.study_folder import Study, open_study, read_bags

SETTING = "mining.verdicts=review"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_reviewed_study(tmp_path / "study").folder


def _judge(folder: Path, *said: tuple[str, int, Verdict], reviewer: str = "jo") -> None:
    """(slide, patch of the first row, verdict)."""
    with VerdictStore(folder / "review.sqlite") as store:
        store.add(
            [
                NewVerdict(reviewer, JudgedPatch(slide, place * SIZE, 0, SIZE), verdict, "queue")
                for slide, place, verdict in said
            ]
        )


def _remark(folder: Path, slide_id: str) -> None:
    with VerdictStore(folder / "review.sqlite") as store:
        store.remark(reviewer="jo", slide_id=slide_id, remark="label wrong", comment="see edge")


def test_verdicts_of_the_review_are_those_of_the_cohort(folder: Path):
    _judge(folder, ("s2", 0, "lesion"), ("s2", 1, "normal"), ("s0", 0, "lesion"))
    study = open_study(folder, overrides=[SETTING])
    reviewed = reviewed_bags(study, read_bags(study))
    cohort = study_cohort(study, bags=reviewed.found.bags, matched=reviewed.matched)
    again = study_cohort(study, bags=reviewed.found.bags)
    for verdicts in (cohort.verdicts, again.verdicts):
        np.testing.assert_array_equal(verdicts["s2"][:3], [1, 0, np.nan])
        assert np.isnan(verdicts["s0"]).all()
    notes = reviewed.notes(uses_verdicts=True)
    assert notes[0] == (
        "review: 1 slide in doubt, used as they are; mining.leave_out_doubted: true leaves them out:"
    )
    assert notes[1] == "  s0: lesion in a negative slide (jo): 1 patch"
    assert notes[2] == "review: verdicts on 2 patches used: 1 lesion, 1 normal, 0 artefact"
    assert reviewed.notes(uses_verdicts=False) == notes[:2]


def test_without_the_setting_doubts_are_listed_and_verdicts_left_alone(folder: Path):
    study = open_study(folder)
    assert reviewed_bags(study, read_bags(study)).notes(uses_verdicts=True) == []
    _judge(folder, ("s2", 0, "lesion"))
    _remark(folder, "s3")
    reviewed = reviewed_bags(study, read_bags(study))
    assert reviewed.matched is None
    assert study_cohort(study, bags=reviewed.found.bags).verdicts == {}
    assert reviewed.notes(uses_verdicts=True)[1:] == ["  s3: label wrong (jo): see edge"]


def test_slides_in_doubt_are_left_out_on_request(folder: Path):
    _judge(folder, ("s0", 0, "lesion"))
    _remark(folder, "s3")
    study = open_study(folder, overrides=["mining.leave_out_doubted=true"])
    reviewed = reviewed_bags(study, read_bags(study))
    assert (reviewed.found.doubted, reviewed.found.left_out) == (("s0", "s3"), {"s0", "s3"})
    assert {bag.slide_id for bag in reviewed.found.bags} == {f"s{i}" for i in range(24)} - {"s0", "s3"}
    assert reviewed.notes(uses_verdicts=True)[0] == "review: 2 slides in doubt, left out:"


def test_a_study_that_is_all_in_doubt_is_refused(folder: Path):
    for i in range(24):
        _remark(folder, f"s{i}")
    study = open_study(folder, overrides=["mining.leave_out_doubted=true"])
    with pytest.raises(BagError, match=r"all 24 slides are in doubt .*leave_out_doubted: false"):
        reviewed_bags(study, read_bags(study))


def _hash(folder: Path, name: str) -> str:
    study: Study = open_study(folder, overrides=[SETTING])
    cohort = study_cohort(study, bags=read_bags(study).bags)
    fold = study_folds(study, cohort=cohort, left_out=set())[0][0]
    return Trial(arm(name, study=study.config, kind="features"), 0, 0, fold, 0).config_hash(cohort)


def test_the_hash_of_a_trial_changes_with_what_is_used_and_not_otherwise(folder: Path):
    plain, with_verdicts = "ours+instance", "ours+instance+verdicts"
    first = _hash(folder, plain), _hash(folder, with_verdicts)
    _judge(folder, ("s2", 0, "lesion"))
    second = _hash(folder, plain), _hash(folder, with_verdicts)
    assert second[0] == first[0]
    assert second[1] != first[1]
    # The same again, one who is unsure, and a patch that is not there.
    _judge(folder, ("s2", 0, "lesion"), ("s2", 50, "lesion"), reviewer="al")
    _judge(folder, ("s2", 3, "unsure"))
    assert (_hash(folder, plain), _hash(folder, with_verdicts)) == second
