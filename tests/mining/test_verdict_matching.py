from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.support.many_classes import ORDERED, WITH_NEGATIVE
from tests.support.many_labels import MULTI

from hardmil.bags.bag import Bag
from hardmil.mining.verdict_matching import (
    MatchedVerdicts,
    Review,
    SlideDoubt,
    doubted_slides,
    match_verdicts,
    no_hard_negatives,
    read_review,
)
from hardmil.mining.verdict_store import JudgedPatch, NewVerdict, SlideRemark, StoredVerdict, VerdictStore

NAN = float("nan")


def _bag(name: str = "a", *, label: int = 1, size: int = 10, step: int = 10, n: int = 4) -> Bag:
    """A row of n patches at y 20."""
    coords = np.stack([np.arange(n) * step, np.full(n, 20)], axis=1)
    return Bag(name, f"case {name}", label, np.eye(n, dtype=np.float32), coords, size)


def _verdicts(*said: tuple[str, str, int, int, int, str]) -> list[StoredVerdict]:
    """(reviewer, slide, x, y, size, verdict), oldest first."""
    return [
        StoredVerdict(i, "", who, JudgedPatch(slide, x, y, size), verdict, "queue", None, False, i)
        for i, (who, slide, x, y, size, verdict) in enumerate(said, start=1)
    ]


def _oracle(verdicts: Sequence[StoredVerdict], bag: Bag) -> list[float]:
    """One reviewer, instance by instance."""
    found: list[float] = []
    for x, y in bag.coords.tolist():
        size, best = bag.size_level0_px, None
        for one in verdicts:
            patch = one.patch
            dx, dy = x + size / 2 - patch.x, y + size / 2 - patch.y
            if not (0 <= dx < patch.size and 0 <= dy < patch.size):
                continue
            away = max(abs(dx - patch.size / 2), abs(dy - patch.size / 2))
            rank = (-1.0 if (patch.x, patch.y, patch.size) == (x, y, size) else away, -one.number)
            if best is None or rank < best[0]:
                best = rank, {"lesion": 1.0, "normal": 0.0, "artefact": -1.0, "unsure": NAN}[one.verdict]
        found.append(NAN if best is None else best[1])
    return found


def test_the_same_patch_takes_its_verdict():
    said = [("jo", "a", 0, 20, 10, "lesion"), ("jo", "a", 20, 20, 10, "artefact")]
    found = match_verdicts(_verdicts(*said, ("jo", "b", 0, 20, 10, "normal")), [_bag(), _bag("b", label=0)])
    np.testing.assert_array_equal(found.used["a"], [1, NAN, -1, NAN])
    np.testing.assert_array_equal(found.used["b"], [0, NAN, NAN, NAN])
    assert (found.n_of, found.n_moved, found.unmatched) == ({"lesion": 1, "normal": 1, "artefact": 1}, 0, [])
    assert found.notes == ["review: verdicts on 3 patches used: 1 lesion, 1 normal, 1 artefact"]


def test_patches_cut_anew_take_the_square_around_their_centre():
    # A judged square of 10 px at x 4 holds the centre of the patch at 0 (its own is 9), not that at 10 (15).
    found = match_verdicts(_verdicts(("jo", "a", 4, 21, 10, "lesion")), [_bag()])
    np.testing.assert_array_equal(found.used["a"], [1, NAN, NAN, NAN])
    assert found.n_moved == 1
    assert "1 patch cut in another place took the verdict" in found.notes[1]


def test_smaller_patches_share_a_verdict_and_larger_ones_take_the_nearest():
    large = _verdicts(("jo", "a", 0, 18, 20, "normal"))
    np.testing.assert_array_equal(match_verdicts(large, [_bag()]).used["a"], [0, 0, NAN, NAN])
    small = _verdicts(("jo", "a", 12, 22, 6, "lesion"), ("jo", "a", 10, 20, 6, "normal"))
    found = match_verdicts(small, [_bag()])
    np.testing.assert_array_equal(found.used["a"], [NAN, 1, NAN, NAN])
    assert found.unmatched == []


def test_verdicts_that_meet_no_patch_are_reported():
    said = [("jo", "a", 500, 20, 10, "lesion"), ("jo", "a", 0, 20, 10, "normal")]
    found = match_verdicts(_verdicts(*said, ("jo", "elsewhere", 0, 20, 10, "normal")), [_bag()])
    assert [one.number for one in found.unmatched] == [1]
    assert found.notes[-1] == (
        "review: 1 verdict on a meet no patch of today: not used; judge these slides again"
    )
    nowhere = match_verdicts(_verdicts(*said), [_bag(size=0)])
    assert len(nowhere.unmatched) == 2
    assert np.isnan(nowhere.used["a"]).all()


def test_reviewers_that_disagree_are_not_used_and_one_who_is_unsure_abstains():
    said = [
        *[("jo", "a", 0, 20, 10, "lesion"), ("al", "a", 0, 20, 10, "normal")],
        *[("jo", "a", 10, 20, 10, "lesion"), ("al", "a", 10, 20, 10, "lesion")],
        *[("jo", "a", 20, 20, 10, "normal"), ("al", "a", 20, 20, 10, "unsure")],
        ("jo", "a", 30, 20, 10, "unsure"),
    ]
    found = match_verdicts(_verdicts(*said), [_bag()])
    np.testing.assert_array_equal(found.used["a"], [NAN, 1, 0, NAN])
    assert (found.n_disagreed, found.n_unsure) == (1, 1)
    assert found.notes[1:] == [
        "review: unsure on 1 patch: not used",
        "review: reviewers disagree on 1 patch: not used",
    ]


def test_a_lesion_in_a_negative_slide_is_not_used_there():
    said = _verdicts(("jo", "b", 0, 20, 10, "lesion"), ("jo", "b", 10, 20, 10, "normal"))
    bag = _bag("b", label=0)
    found = match_verdicts(said, [bag])
    np.testing.assert_array_equal(found.used["b"], [NAN, 0, NAN, NAN])
    assert "lesion in a negative slide on 1 patch: not used, the labels are in doubt" in found.notes[1]
    assert no_hard_negatives(found, [bag]) == {("b", 0, 20): "lesion"}


@pytest.mark.parametrize("seed", range(20))
def test_matching_is_that_of_a_plain_loop(seed: int):
    rng = np.random.default_rng(seed)
    kinds = ("lesion", "normal", "artefact", "unsure")
    said = [
        ("jo", "a", x, y, size, kinds[kind])
        for x, y, size, kind in rng.integers((-5, 15, 4, 0), (40, 25, 20, 4), size=(12, 4)).tolist()
    ]
    said.insert(5, ("jo", "a", 10, 20, 10, "lesion"))
    bag = _bag(step=7, n=6) if seed % 2 else _bag()
    verdicts = _verdicts(*said)
    np.testing.assert_array_equal(match_verdicts(verdicts, [bag]).said["a"], _oracle(verdicts, bag))


def test_doubts_are_remarks_and_lesions_in_negative_slides():
    remarks = [
        SlideRemark(1, "", "jo", "s1", "label wrong", "tumour at the edge"),
        SlideRemark(2, "", "al", "s1", "label wrong", ""),
        SlideRemark(3, "", "al", "s2", "poor quality", ""),
    ]
    verdicts = _verdicts(
        *[("jo", "s3", 0, 0, 9, "lesion"), ("jo", "s3", 9, 0, 9, "lesion"), ("jo", "s4", 9, 0, 9, "lesion")],
        ("jo", "s5", 0, 0, 9, "normal"),
    )
    found = doubted_slides(
        Review(verdicts, remarks), labels={f"s{i}": int(i not in (3, 5)) for i in range(9)}
    )
    assert found == [
        SlideDoubt("s1", "label wrong", ("jo", "al"), "tumour at the edge"),
        SlideDoubt("s2", "poor quality", ("al",)),
        SlideDoubt("s3", "lesion in a negative slide", ("jo",), "2 patches"),
    ]
    assert found[0].words == "s1: label wrong (jo, al): tumour at the edge"


def test_the_review_of_a_folder_is_what_stands_in_its_file(tmp_path: Path):
    assert read_review(tmp_path) == Review()
    assert not (tmp_path / "review.sqlite").exists()
    with VerdictStore(tmp_path / "review.sqlite") as store:
        store.add([NewVerdict("jo", JudgedPatch("a", 0, 20, 10), "normal", "queue")])
        store.add([NewVerdict("jo", JudgedPatch("a", 0, 20, 10), "lesion", "queue")])
        store.remark(reviewer="jo", slide_id="a", remark="fine")
    found: MatchedVerdicts = match_verdicts(read_review(tmp_path).verdicts, [_bag()])
    np.testing.assert_array_equal(found.used["a"], [1, NAN, NAN, NAN])
    assert read_review(tmp_path).remarks == []


def _class_bags() -> list[Bag]:
    """A bag of each class: n (normal), a, b."""
    return [_bag(name, label=label) for label, name in enumerate(("n", "a", "b"))]


def test_with_many_classes_a_verdict_names_one():
    said = [
        ("jo", "a", 0, 20, 10, "A"),
        ("jo", "a", 10, 20, 10, "normal"),
        ("jo", "a", 20, 20, 10, "artefact"),
    ]
    said += [
        ("jo", "b", 0, 20, 10, "lesion"),
        ("jo", "b", 10, 20, 10, "b"),
        ("jo", "b", 20, 20, 10, "unsure"),
    ]
    found = match_verdicts(_verdicts(*said), _class_bags(), task=WITH_NEGATIVE)
    np.testing.assert_array_equal(found.used["a"], [2, 0, -1, NAN])
    np.testing.assert_array_equal(found.used["b"], [3, 3, NAN, NAN])
    assert (found.n_of, found.n_of_class) == ({"lesion": 3, "normal": 1, "artefact": 1}, {"a": 1, "b": 2})
    assert found.notes == [
        "review: verdicts on 5 patches used: 1 a, 2 b, 1 normal, 1 artefact",
        "review: unsure on 1 patch: not used",
    ]


def test_a_class_that_the_label_rules_out_puts_it_in_doubt():
    said = [("jo", "a", 0, 20, 10, "b"), ("jo", "n", 0, 20, 10, "lesion"), ("al", "n", 10, 20, 10, "a")]
    verdicts = _verdicts(*said, ("al", "b", 0, 20, 10, "b"))
    found = match_verdicts(verdicts, _class_bags(), task=WITH_NEGATIVE)
    assert np.isnan(found.used["a"]).all()
    assert np.isnan(found.used["n"]).all()
    assert "review: a class that the label of the slide rules out on 3 patches: not used" in found.notes[1]
    assert no_hard_negatives(found, _class_bags()) == {
        ("n", 0, 20): "lesion",
        ("n", 10, 20): "lesion",
        ("a", 0, 20): "lesion",
    }
    labels = {"n": 0, "a": 1, "b": 2}
    doubts = doubted_slides(Review(verdicts), labels=labels, task=WITH_NEGATIVE)
    assert [one.words for one in doubts] == [
        "a: b in a slide of a (jo): 1 patch",
        "n: lesion in a slide of normal (jo): 1 patch",
        "n: a in a slide of normal (al): 1 patch",
    ]


def test_of_ordered_classes_only_a_higher_one_is_a_doubt():
    bags = [_bag("low", label=1)]
    said = [("jo", "low", x * 10, 20, 10, name) for x, name in enumerate(("benign", "low", "high"))]
    found = match_verdicts(_verdicts(*said), bags, task=ORDERED)
    np.testing.assert_array_equal(found.used["low"], [0, 2, NAN, NAN])
    np.testing.assert_array_equal(found.said["low"], [0, 2, 3, NAN])


def test_a_class_that_the_study_has_no_more_is_said():
    said = [("jo", "a", 0, 20, 10, "c"), ("al", "a", 0, 20, 10, "a"), ("jo", "a", 10, 20, 10, "b c")]
    found = match_verdicts(_verdicts(*said), _class_bags(), task=WITH_NEGATIVE)
    np.testing.assert_array_equal(found.used["a"], [2, NAN, NAN, NAN])
    assert found.unmatched == []
    assert found.notes[-1] == "review: verdicts name b c, c, not among the classes of the study: not used"
    in_two = match_verdicts(_verdicts(*said), _class_bags())
    assert np.isnan(in_two.used["a"]).all()


def test_where_a_slide_has_several_classes_a_verdict_of_any_other_is_a_doubt():
    bags = [_bag("none", label=0), _bag("a", label=0b001), _bag("b + c", label=0b110)]
    said = [("jo", bag.slide_id, x * 10, 20, 10, name) for bag in bags for x, name in enumerate("abc")]
    verdicts = _verdicts(*said, *(("jo", bag.slide_id, 30, 20, 10, "normal") for bag in bags))
    found = match_verdicts(verdicts, bags, task=MULTI)
    np.testing.assert_array_equal(found.used["none"], [NAN, NAN, NAN, 0])
    np.testing.assert_array_equal(found.used["a"], [1, NAN, NAN, 0])
    np.testing.assert_array_equal(found.used["b + c"], [NAN, 2, 3, 0])
    assert found.n_of == {"lesion": 3, "normal": 3, "artefact": 0}
    assert found.n_of_class == {"a": 1, "b": 1, "c": 1}
    assert "rules out on 6 patches: not used, the labels are in doubt" in found.notes[1]
    doubts = doubted_slides(Review(verdicts), labels={bag.slide_id: bag.label for bag in bags}, task=MULTI)
    assert [one.words for one in doubts] == [
        *(f"none: {name} in a slide labelled none (jo): 1 patch" for name in "abc"),
        *(f"a: {name} in a slide labelled a (jo): 1 patch" for name in "bc"),
        "b + c: a in a slide labelled b + c (jo): 1 patch",
    ]
    not_hard = no_hard_negatives(found, bags)
    assert not_hard == {
        **{("none", x, 20): "lesion" for x in (0, 10, 20)},
        **{("a", x, 20): "lesion" for x in (10, 20)},
        ("b + c", 0, 20): "lesion",
    }


def test_lesion_is_the_class_of_a_slide_that_has_only_one():
    bags = [_bag("none", label=0), _bag("b", label=0b010), _bag("a + b", label=0b011)]
    verdicts = _verdicts(*(("jo", bag.slide_id, 0, 20, 10, "lesion") for bag in bags))
    found = match_verdicts(verdicts, bags, task=MULTI)
    assert [found.used[bag.slide_id][0] for bag in bags] == pytest.approx([NAN, 2, NAN], nan_ok=True)
    assert (found.n_of["lesion"], found.n_unsure) == (1, 1)
    doubts = doubted_slides(Review(verdicts), labels={bag.slide_id: bag.label for bag in bags}, task=MULTI)
    assert [one.words for one in doubts] == ["none: lesion in a slide labelled none (jo): 1 patch"]
