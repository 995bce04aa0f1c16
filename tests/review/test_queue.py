from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.support.class_reviews import class_review as class_review
from tests.support.class_reviews import multi_review as multi_review
from tests.support.reviews import evaluated_study

from hardmil.mining.hard_instances import hard_instances
from hardmil.preprocessing.study_folder import Study
from hardmil.review import queue as queue_module
from hardmil.review.held_out_slides import HeldOut, read_held_out, read_patches
from hardmil.review.queue import QueueItem, make_queue

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return evaluated_study(tmp_path_factory.mktemp("review") / "study")


@pytest.fixture(scope="module")
def held_out(study: Study) -> HeldOut:
    return read_held_out(study)


@pytest.fixture(scope="module")
def items(study: Study, held_out: HeldOut) -> Sequence[QueueItem]:
    return make_queue(study, held_out)


def _of(items: Sequence[QueueItem], *reasons: str) -> list[QueueItem]:
    return [item for item in items if item.reason in reasons]


def test_no_patch_is_there_twice(items: Sequence[QueueItem]):
    assert len({(item.slide, item.instance) for item in items}) == len(items) > 100


def test_false_alarms_are_hard_instances_of_negative_slides(items: Sequence[QueueItem], held_out: HeldOut):
    alarms = _of(items, "false alarm")
    assert len(alarms) > 20
    for item in alarms:
        slide = held_out.slides[item.slide]
        assert slide.label == "normal"
        assert item.instance in hard_instances(read_patches(slide)[0].attention)
    wrong = {number for number, slide in enumerate(held_out.slides) if slide.error == "false positive"}
    assert wrong <= {item.slide for item in alarms}


def test_doubtful_patches_are_of_positive_slides(items: Sequence[QueueItem], held_out: HeldOut):
    for item in _of(items, "uncertain", "contradicting"):
        assert held_out.slides[item.slide].label == "tumour"
    for item in _of(items, "contradicting"):
        mean = read_patches(held_out.slides[item.slide])[0].attention.mean()
        assert (item.attention > mean) == (item.logit < 0)


def test_uncertain_patches_have_attention_and_are_nearest_to_0(items: Sequence[QueueItem], held_out: HeldOut):
    for number, slide in enumerate(held_out.slides):
        here = {item.instance for item in items if item.slide == number}
        (patches,) = read_patches(slide)
        attended = np.flatnonzero(patches.attention > patches.attention.mean())
        if slide.label == "tumour":
            assert int(attended[np.argmin(np.abs(patches.logit[attended]))]) in here


def test_the_first_patches_cover_clusters_and_cases(items: Sequence[QueueItem], held_out: HeldOut):
    chosen = [item for item in items if item.reason != "random"]
    n_clusters = len({item.cluster for item in chosen})
    first = chosen[: 2 * n_clusters]
    assert len({item.cluster for item in first}) == n_clusters
    assert len({held_out.slides[item.slide].case_id for item in first}) == 12
    assert max(Counter(item.cluster for item in first).values()) <= 4


def test_reasons_take_turns(items: Sequence[QueueItem]):
    first = [item.reason for item in items if item.reason != "random"][:8]
    assert first == ["false alarm", "uncertain", "false alarm", "contradicting"] * 2


def test_random_patches_are_a_fixed_share_of_each_block(items: Sequence[QueueItem]):
    for start in range(0, len(items) - 20, 20):
        block = items[start : start + 20]
        assert [item.reason for item in block].count("random") == 3
    assert all(item.cluster == -1 for item in _of(items, "random"))
    places = [i % 20 for i, item in enumerate(items[:100]) if item.reason == "random"]
    assert len(set(places)) > 3


def test_random_patches_are_drawn_from_all_patches(
    study: Study, held_out: HeldOut, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(queue_module, "QUEUE_SIZE", 4000)
    monkeypatch.setattr(queue_module, "RANDOM_SHARE", 0.5)
    drawn = _of(make_queue(study, held_out), "random")
    by_label = Counter(held_out.slides[item.slide].label for item in drawn)
    # Of 720 patches, half are on slides of either label.
    assert len(drawn) > 100
    assert 0.35 < by_label["tumour"] / len(drawn) < 0.65
    assert {item.instance for item in drawn} > set(range(0, 30, 7))


def test_slides_without_coordinates_are_left_out(study: Study, held_out: HeldOut):
    slides = [replace(held_out.slides[0], size_level0=0), *held_out.slides[1:]]
    items = make_queue(study, replace(held_out, slides=slides))
    assert 0 not in {item.slide for item in items}
    nothing = [replace(slide, size_level0=0) for slide in slides]
    assert make_queue(study, replace(held_out, slides=nothing)) == []


def test_a_slide_without_its_bag_has_no_clusters(tmp_path: Path):
    study = evaluated_study(tmp_path / "study")
    (study.folder / "feats" / "s3.h5").unlink()
    items = make_queue(study, read_held_out(study))
    clusters = {item.cluster for item in items if item.slide == 3}
    assert clusters == {-1}
    assert len({item.cluster for item in items}) > 5


def test_few_errors_are_joined_by_the_nearest_negative_slides(study: Study, held_out: HeldOut):
    right = [replace(slide, error="") for slide in held_out.slides]
    alarms = _of(make_queue(study, replace(held_out, slides=right)), "false alarm")
    negative = {number for number, slide in enumerate(right) if slide.label == "normal"}
    assert {item.slide for item in alarms} == negative


def test_the_queue_has_a_largest_size(study: Study, held_out: HeldOut, monkeypatch: pytest.MonkeyPatch):
    whole = make_queue(study, held_out)
    monkeypatch.setattr(queue_module, "QUEUE_SIZE", 60)
    items = make_queue(study, held_out)
    assert Counter(item.reason == "random" for item in items) == {False: 51, True: 9}
    chosen = [(one.slide, one.instance) for one in items if one.reason != "random"]
    assert len(set(chosen) & {(one.slide, one.instance) for one in whole}) >= 45


def test_with_many_classes_each_has_its_false_alarms_and_clusters(class_review: Study):
    held_out = read_held_out(class_review)
    items = make_queue(class_review, held_out)
    assert len({(item.slide, item.instance) for item in items}) == len(items)
    names = held_out.task.branch_names
    alarms = _of(items, "false alarm")
    assert {item.branch for item in alarms} == {0, 1}
    for item in alarms:
        slide = held_out.slides[item.slide]
        of_branch = read_patches(slide)[item.branch]
        assert slide.label != names[item.branch]
        assert item.instance in hard_instances(of_branch.attention)
        assert item.attention == pytest.approx(float(of_branch.attention[item.instance]))
    for branch in range(2):
        called = {n for n, slide in enumerate(held_out.slides) if slide.calls[branch].is_alarm}
        assert called
        assert called <= {item.slide for item in alarms if item.branch == branch}
    for item in _of(items, "uncertain", "contradicting"):
        assert held_out.slides[item.slide].label == names[item.branch]
    by_cluster = {item.cluster: item.branch for item in items if item.cluster >= 0}
    assert all(item.branch == by_cluster[item.cluster] for item in items if item.cluster >= 0)
    assert set(by_cluster.values()) == {0, 1}


def test_classes_take_turns(class_review: Study):
    items = make_queue(class_review, read_held_out(class_review))
    for reason in ("false alarm", "uncertain", "random"):
        branches = [item.branch for item in _of(items, reason)][:8]
        assert sorted(branches) == [0] * 4 + [1] * 4


def test_with_several_labels_alarms_are_of_classes_that_a_slide_lacks(multi_review: Study):
    held_out = read_held_out(multi_review)
    items = make_queue(multi_review, held_out)
    assert len({(item.slide, item.instance) for item in items}) == len(items)

    def has(item: QueueItem) -> bool:
        return "abc"[item.branch] in held_out.slides[item.slide].label.split(" + ")

    alarms = _of(items, "false alarm")
    assert {item.branch for item in alarms} == {0, 1, 2}
    assert not any(has(item) for item in alarms)
    # Also on slides that have another class.
    assert {held_out.slides[item.slide].label for item in alarms} >= {"none", "a + b"}
    for item in alarms:
        attention = read_patches(held_out.slides[item.slide])[item.branch].attention
        assert item.instance in hard_instances(attention)
        assert item.attention == pytest.approx(float(attention[item.instance]))
    for branch in range(3):
        called = {n for n, slide in enumerate(held_out.slides) if slide.calls[branch].is_alarm}
        drawn = {item.slide for item in items if item.reason == "random"}
        assert called
        assert called <= {item.slide for item in alarms if item.branch == branch} | drawn


def test_with_several_labels_doubtful_patches_are_of_each_class_of_a_slide(multi_review: Study):
    held_out = read_held_out(multi_review)
    items = _of(make_queue(multi_review, held_out), "uncertain", "contradicting")
    asked: dict[int, set[str]] = {}
    for item in items:
        asked.setdefault(item.slide, set()).add("abc"[item.branch])
    for number, slide in enumerate(held_out.slides):
        own = set(slide.label.split(" + ")) - {"none"}
        assert asked.get(number, set()) <= own
        assert sum(item.slide == number for item in items) <= 16
    whole = [number for number, slide in enumerate(held_out.slides) if slide.label == "a + b + c"]
    assert any(asked[number] == {"a", "b", "c"} for number in whole)
    by_reason = Counter((item.slide, item.branch, item.reason) for item in items)
    assert max(n for (number, _, _), n in by_reason.items() if number in whole) <= 2
