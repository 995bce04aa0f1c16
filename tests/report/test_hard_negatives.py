from collections import Counter
from dataclasses import replace

from hardmil.evaluation.results import HardNegativeRow, TrialKey
from hardmil.mining.hard_instances import HardInstance
from hardmil.report.hard_negatives import select_hard_negatives


def row(slide: int, instance: int, cluster: int, *, fold: int = 0, arm: str = "ours+fmb") -> HardNegativeRow:
    mined = HardInstance(
        round=1,
        slide_id=f"s{slide}",
        case_id=f"c{slide}",
        instance=instance,
        x=32 * instance,
        y=0,
        size_level0=32,
        attention=1 / (1 + instance),
        bag_score=0.7,
        cluster=cluster,
        source="out-of-fold",
    )
    return HardNegativeRow(TrialKey(arm, "case", "grid", 0, fold), mined)


def test_shown_hard_negatives_are_spread_over_clusters_and_slides():
    rows = [row(slide, instance, instance % 3) for slide in range(4) for instance in range(9)]
    shown = select_hard_negatives(rows, limit=12)
    assert [item.cluster for item in shown.items] == [0, 1, 2] * 4
    for cluster in range(3):
        assert {item.slide_id for item in shown.items if item.cluster == cluster} == {"s0", "s1", "s2", "s3"}
    assert shown.n_by_cluster == {("", 0): 12, ("", 1): 12, ("", 2): 12}
    assert shown.training == "", "there is only one training"


def test_clusters_of_different_trainings_are_not_mixed():
    rows = [row(0, 0, 1), row(1, 0, 1, fold=1), row(2, 1, 1, fold=1), row(3, 0, 1, arm="ours+fmb-oof")]
    shown = select_hard_negatives(rows, arm="ours+fmb")
    assert {item.slide_id for item in shown.items} == {"s1", "s2"}
    assert shown.training == "arm ours+fmb, repeat 0, fold 1"
    assert [item.slide_id for item in select_hard_negatives(rows, arm="ours+fmb-oof").items] == ["s3"]
    assert len(select_hard_negatives(rows, arm="ours").items) == 2
    loose = [row(0, 0, -1), row(1, 0, -1, fold=1), row(1, 0, -1, fold=2)]
    assert (len(select_hard_negatives(loose).items), select_hard_negatives(loose).training) == (2, "")
    assert select_hard_negatives([]).items == []


def test_hard_negatives_of_a_bundle_have_no_arm():
    one = row(0, 1, -1)
    (item,) = select_hard_negatives([HardNegativeRow(None, one.mined)]).items
    assert (item.slide_id, item.x, item.arm) == ("s0", 32, "")
    assert select_hard_negatives([one]).items[0].arm == "ours+fmb"


def test_an_instance_is_shown_once_and_only_with_coordinates():
    again = row(0, 1, -1, fold=1)
    placeless = HardNegativeRow(None, replace(again.mined, slide_id="s9", size_level0=0))
    shown = select_hard_negatives([row(0, 1, -1), again, placeless])
    assert [(item.slide_id, item.x) for item in shown.items] == [("s0", 32)]
    assert shown.n_by_cluster == {("", -1): 2}


def test_each_class_has_clusters_of_its_own_and_its_share_of_the_room():
    def hard_for(name: str, of: HardNegativeRow) -> HardNegativeRow:
        return replace(of, mined=replace(of.mined, hard_for=name))

    rows = [hard_for(name, row(slide, 0, 0)) for name in "abc" for slide in range(30)]
    shown = select_hard_negatives(rows)
    assert shown.n_by_cluster == {("a", 0): 30, ("b", 0): 30, ("c", 0): 30}
    assert Counter(item.hard_for for item in shown.items) == {"a": 12, "b": 12, "c": 12}
