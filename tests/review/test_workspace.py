from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from tests.support.reviews import SIZE, evaluated_study, write_reviewed_study

from hardmil.errors import ConfigError
from hardmil.mining.verdict_store import JudgedPatch, NewVerdict
from hardmil.preprocessing.study_folder import Study, open_study
from hardmil.review.workspace import Counts, ProgressRow, Workspace, open_workspace


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return evaluated_study(tmp_path_factory.mktemp("review") / "study")


@pytest.fixture
def workspace(study: Study) -> Iterator[Workspace]:
    with open_workspace(study) as opened:
        yield opened
    (study.folder / "review.sqlite").unlink()


def _judge(workspace: Workspace, reviewer: str, *verdicts: str, seconds: float | None = None) -> None:
    """Verdicts on the first patches of the queue."""
    workspace.store.add(
        [
            NewVerdict(reviewer, workspace.patch_of(item), verdict, "queue", seconds)  # pyright: ignore[reportArgumentType]
            for item, verdict in zip(workspace.queue, verdicts, strict=False)
        ]
    )


def test_slides_patches_and_items_fit_together(workspace: Workspace):
    assert (workspace.run, workspace.arm) == ("main", "ours")
    assert [slide.slide_id for slide in workspace.slides] == [f"s{i}" for i in range(24)]
    for item in workspace.queue:
        patches = workspace.patches(item.slide)
        assert patches.coords[item.instance].tolist() == [item.x, item.y]
        assert patches.attention[item.instance] == pytest.approx(item.attention)
        assert patches.logit[item.instance] == pytest.approx(item.logit)
        assert patches.contribution[item.instance] == pytest.approx(item.contribution)
        assert workspace.patch_of(item) == JudgedPatch(f"s{item.slide}", item.x, item.y, SIZE)
    assert workspace.patches(0) is workspace.patches(0)


def test_clusters_are_parts_of_the_queue(workspace: Workspace):
    sizes = Counter(item.cluster for item in workspace.queue)
    assert len(sizes) > 5
    for number, size in sizes.items():
        members = workspace.cluster(number)
        assert len(members) == (size if number >= 0 else 0)
        assert all(item.cluster == number for item in members)
    assert workspace.cluster(10_000) == ()


def test_counts_are_of_one_reviewer(workspace: Workspace):
    n = len(workspace.queue)
    assert workspace.counts("jo") == Counts(0, n, 0, None)
    _judge(workspace, "jo", "normal", "lesion", seconds=2.0)
    _judge(workspace, "jo", "unsure", seconds=9.0)
    assert workspace.counts("jo") == Counts(2, n - 2, 2, 5.5)
    assert workspace.counts("al").judged == 0
    workspace.store.undo("jo")
    assert workspace.counts("jo") == Counts(2, n - 2, 2, 2.0)
    elsewhere, long_ago = JudgedPatch("s1", 10_000, 0, SIZE), "2020-01-02T03:04:05+00:00"
    workspace.store.add([NewVerdict("al", elsewhere, "normal", "csv", at=long_ago)])
    assert workspace.counts("al") == Counts(1, n, 0, None)


def test_progress_says_who_judged_what_and_when(workspace: Workspace):
    _judge(workspace, "jo", "normal", "normal", "lesion")
    day = datetime.now(UTC).astimezone().date().isoformat()
    progress = workspace.progress()
    expected = [
        ProgressRow("jo", day, "queue", "lesion", 1),
        ProgressRow("jo", day, "queue", "normal", 2),
    ]
    assert (progress.rows, progress.rounds) == (expected, [])


def test_agreement_is_of_the_two_with_the_most_patches(workspace: Workspace):
    assert workspace.agreement() is None
    _judge(workspace, "jo", *["normal", "lesion"] * 5)
    _judge(workspace, "al", *["normal", "lesion"] * 4, "lesion")
    _judge(workspace, "bo", "normal")
    found = workspace.agreement()
    assert found is not None
    assert (found.reviewers, found.n, len(workspace.agreements())) == (("al", "jo"), 9, 3)
    assert found.kappa == pytest.approx((8 / 9 - 40 / 81) / (1 - 40 / 81))


def test_the_cases_are_those_with_errors_and_remarks(workspace: Workspace):
    wrong = {slide.case_id for slide in workspace.slides if slide.error}
    assert {case.case_id for case in workspace.cases()} == wrong
    right = next(slide for slide in workspace.slides if slide.case_id not in wrong)
    workspace.store.remark(reviewer="jo", slide_id=right.slide_id, remark="poor quality")
    *_, last = workspace.cases()
    assert last.case_id == right.case_id
    (said,) = [one for one in last.slides if one.slide.slide_id == right.slide_id]
    assert [one.remark for one in said.remarks] == ["poor quality"]


def test_a_workspace_opens_the_same_way_again(workspace: Workspace, study: Study):
    with open_workspace(study) as again:
        assert again.queue == workspace.queue
    with open_workspace(open_study(study.folder, overrides=["seed=3"])) as other:
        assert other.queue != workspace.queue


def test_without_an_evaluation_the_error_says_which_command_to_run(tmp_path: Path, study: Study):
    plain = write_reviewed_study(tmp_path / "study")
    with pytest.raises(ConfigError, match=r"runs/main: holds no evaluation; .*hardmil evaluate .*/study$"):
        open_workspace(plain)
    with pytest.raises(ConfigError, match=r"hardmil evaluate .*/study --name other$"):
        open_workspace(plain, run="other")
    assert not (plain.folder / "review.sqlite").exists()


def test_values_are_finite_where_the_arm_has_them(workspace: Workspace):
    values = [(one.attention, one.logit, one.contribution) for one in workspace.queue]
    assert np.isfinite(values).all()
