from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hardmil.bags.bag import Bag
from hardmil.config.mining import MiningConfig
from hardmil.config.task import TaskConfig
from hardmil.errors import EmptyBagError, TableError
from hardmil.mil.bag_score import BagScore
from hardmil.mining import verdicts
from hardmil.mining.verdicts import (
    chosen_verdicts,
    instance_labels,
    judged_bags,
    read_verdicts,
    reviewer_digest,
)

NAN = float("nan")


def _bag(name: str, label: int, n: int = 6) -> Bag:
    coords = np.stack([np.arange(n) * 10, np.full(n, 7)], axis=1)
    return Bag(name, f"case {name}", label, np.eye(n, dtype=np.float32), coords, 10)


def _table(folder: Path, *lines: str, head: str = "slide_id,x,y,verdict,reviewer") -> Path:
    path = folder / "verdicts.csv"
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return path


def test_a_table_becomes_labels_and_the_later_verdict_counts(tmp_path: Path):
    path = _table(
        tmp_path,
        "a,0,7,lesion,jo",
        "a,10,7,Normal ,jo",
        "a,20,7,artefact,jo",
        "a,30,7,unsure,jo",
        "a,0,7,normal,al",
        "elsewhere,1,2,lesion,jo",
    )
    found = read_verdicts(path, [_bag("a", 1), _bag("b", 0)])
    np.testing.assert_array_equal(found["a"], [0, 0, -1, NAN, NAN, NAN])
    np.testing.assert_array_equal(found["b"], [NAN] * 6)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,0,7,tumour,jo"], "line 2: verdict 'tumour' on slide a; expected one of lesion, normal"),
        (["a,0,7,lesion,jo", "a,3,7,lesion,jo"], "line 3: no patch of slide a .* x 3, y 7"),
        (["a,left,7,lesion,jo"], "line 2: no patch of slide a .* x left"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, lines: list[str], message: str):
    with pytest.raises(TableError, match=message):
        read_verdicts(_table(tmp_path, *lines), [_bag("a", 1)])


@pytest.mark.parametrize("line", ["b,0,7", "b,0", "b"])
def test_short_lines_are_named(tmp_path: Path, line: str):
    with pytest.raises(TableError, match=r"line 3: (verdict '' on slide b|.*); expected"):
        read_verdicts(_table(tmp_path, "a,0,7,lesion", line), [_bag("a", 1), _bag("b", 1)])
    (found,) = read_verdicts(_table(tmp_path, "a,0,7,lesion"), [_bag("a", 1)]).values()
    np.testing.assert_array_equal(found, [1, *[NAN] * 5])


def test_spaces_around_cells_do_not_matter(tmp_path: Path):
    path = _table(tmp_path, "a  , 0,7 , lesion ,jo", head="slide_id ,x, y,verdict ,reviewer")
    np.testing.assert_array_equal(read_verdicts(path, [_bag("a", 1)])["a"], [1, *[NAN] * 5])


def test_numbers_as_pandas_writes_them_and_american_spelling(tmp_path: Path):
    found = read_verdicts(_table(tmp_path, "a,10.0,7.0,Artifact,jo"), [_bag("a", 1)])
    np.testing.assert_array_equal(found["a"], [NAN, -1, NAN, NAN, NAN, NAN])
    with pytest.raises(TableError, match=r"no patch of slide a .* x 10\.5"):
        read_verdicts(_table(tmp_path, "a,10.5,7,lesion,jo"), [_bag("a", 1)])


def test_a_table_that_matches_no_slide_is_refused(tmp_path: Path):
    message = r"verdicts\.csv: none of its slides has a bag: found c, d; expected .*such as a, b; correct"
    with pytest.raises(TableError, match=message):
        read_verdicts(_table(tmp_path, "c,0,7,lesion,jo", "d,0,7,lesion,jo"), [_bag("a", 1), _bag("b", 0)])
    with pytest.raises(TableError, match="no verdicts below the header"):
        read_verdicts(_table(tmp_path), [_bag("a", 1)])


def test_wrong_tables_are_named(tmp_path: Path):
    with pytest.raises(TableError, match="no column verdict"):
        read_verdicts(_table(tmp_path, "a,0,7", head="slide_id,x,y"), [_bag("a", 1)])
    with pytest.raises(TableError, match=r"none\.csv: no such file"):
        read_verdicts(tmp_path / "none.csv", [_bag("a", 1)])


def test_judged_bags_carry_labels_and_lose_their_artefacts():
    verdicts = {"a": np.array([1, 0, -1, NAN, NAN, -1], np.float32), "c": np.full(6, NAN, np.float32)}
    judged, other, unjudged = judged_bags([_bag("a", 1), _bag("b", 0), _bag("c", 1)], verdicts=verdicts)
    assert judged.coords[:, 0].tolist() == [0, 10, 30, 40]
    assert judged.instance_labels is not None
    np.testing.assert_array_equal(judged.instance_labels, [1, 0, NAN, NAN])
    assert other.instance_labels is None
    assert (len(unjudged), unjudged.instance_labels) == (6, None)
    (dropped,) = judged_bags([_bag("a", 1)], verdicts={"a": np.array([-1, *[NAN] * 5], np.float32)})
    assert dropped.coords[:, 0].tolist() == [10, 20, 30, 40, 50]
    assert dropped.instance_labels is not None, "or a training on it would be taken for one on the whole bag"
    with pytest.raises(EmptyBagError, match="slide a: every patch was judged an artefact"):
        judged_bags([_bag("a", 1)], verdicts={"a": np.full(6, -1, np.float32)})


ATTENTION = np.array([0.05, 0.3, 0.1, 0.25, 0.2, 0.1], np.float32)
LOGITS = np.array([5.0, -4.0, 0.1, 3.0, -0.2, 2.0], np.float32)
TRUTH = np.array([1, 0, 1, 0, 1, 0], np.float32)


def _chosen(
    choice: str, *, budget: int = 2, seed: int = 0, others: Sequence[np.ndarray] = ()
) -> dict[str, np.ndarray]:
    bags = [_bag("a", 1), _bag("b", 0), _bag("c", 1)]
    config = MiningConfig.model_validate({"verdict_budget": budget, "verdict_choice": choice})
    return chosen_verdicts(
        bags,
        known={"a": TRUTH, "b": np.zeros(6, np.float32), "c": TRUTH},
        scores=[[BagScore(0.5, ATTENTION, one)] * 3 for one in (LOGITS, *others)],
        embed=lambda bag: np.repeat(np.array([[0.0, 0.0], [9.0, 9.0], [9.0, 0.0]]), 2, axis=0).astype(
            np.float32
        ),
        config=config,
        seed=seed,
    )


@pytest.mark.parametrize(("choice", "chosen"), [("attention", [1, 3]), ("uncertainty", [2, 4])])
def test_the_most_attended_or_the_least_certain_are_chosen(choice: str, chosen: list[int]):
    found = _chosen(choice)
    assert sorted(found) == ["a", "c"]
    assert np.flatnonzero(~np.isnan(found["a"])).tolist() == chosen
    np.testing.assert_array_equal(found["a"][chosen], TRUTH[chosen])


def test_those_are_chosen_on_which_networks_disagree_whatever_the_logit_of_the_first():
    others = [LOGITS + shift * np.array([0, 1, 0, 0, 0, 2], np.float32) for shift in (-1, 3)]
    found = _chosen("disagreement", others=others)
    assert np.flatnonzero(~np.isnan(found["c"])).tolist() == [1, 5]
    assert np.flatnonzero(~np.isnan(_chosen("disagreement", budget=1, others=others)["a"])).tolist() == [5]


def test_chance_chooses_each_equally_often_and_separately_for_each_slide():
    counts, differ = np.zeros(6), False
    for seed in range(300):
        found = _chosen("random", seed=seed)
        counts += ~np.isnan(found["a"])
        differ |= bool(np.any(np.isnan(found["a"]) != np.isnan(found["c"])))
    np.testing.assert_allclose(counts / 300, 2 / 6, atol=0.1)
    assert differ
    np.testing.assert_array_equal(_chosen("random", seed=3)["a"], _chosen("random", seed=3)["a"])


def test_spread_chooses_one_of_each_cluster_and_a_budget_may_exceed_what_there_is():
    chosen = np.flatnonzero(~np.isnan(_chosen("spread", budget=3)["a"]))
    assert sorted(chosen // 2) == [0, 1, 2]
    assert np.isnan(_chosen("attention", budget=50)["a"]).sum() == 0


def test_spread_clusters_by_the_seed(monkeypatch: pytest.MonkeyPatch):
    seeds: list[int] = []

    def cluster(features: np.ndarray, *, n_clusters: int, seed: int) -> np.ndarray:
        seeds.append(seed)
        return np.arange(len(features)) % n_clusters

    monkeypatch.setattr(verdicts, "cluster_instances", cluster)
    _chosen("spread", seed=0)
    _chosen("spread", seed=4)
    assert seeds == [0, 0, 4, 4]


def test_the_digest_changes_with_any_verdict():
    first, other = {"a": TRUTH}, {"a": np.append(TRUTH[:5], np.float32(1))}
    digests = {reviewer_digest(v) for v in (first, other, {"b": TRUTH}, {})}
    assert len(digests) == 4
    assert reviewer_digest({"a": TRUTH.copy()}) == reviewer_digest(first)


def test_bags_may_differ_in_size():
    bags = [_bag(name, 1, n=n) for name, n in (("a", 6), ("b", 4), ("c", 9), ("d", 5))]
    known = {bag.slide_id: np.ones(len(bag), np.float32) for bag in bags}
    scores = [BagScore(0.5, np.arange(len(bag), dtype=np.float32), np.zeros(len(bag))) for bag in bags]
    for _ in range(20):  # types are checked on a few values of a dict, drawn at random
        found = chosen_verdicts(
            bags,
            known=known,
            scores=[scores],
            embed=lambda bag: bag.instances,
            config=MiningConfig(verdict_budget=3),
            seed=0,
        )
        judged = judged_bags(bags, verdicts=found)
    labels = [bag.instance_labels for bag in judged]
    assert [0 if known is None else int(np.sum(known == 1)) for known in labels] == [3] * 4


NAMES = ("normal", "a", "b")
WITH_NEGATIVE = TaskConfig(names=NAMES, negative="normal")
WITHOUT = TaskConfig(names=("clear", "papillary", "other"))
ORDERED = TaskConfig(names=("benign", "low", "high"), ordinal=True)


def test_a_verdict_may_name_a_class_and_lesion_is_that_of_the_slide(tmp_path: Path):
    lines = ["s1,0,7,lesion", "s1,10,7,B", "s1,20,7,normal", "s1,30,7,artefact", "s1,40,7,unsure"]
    path = _table(tmp_path, *lines, head="slide_id,x,y,verdict")
    found = read_verdicts(path, [_bag("s1", 1)], task=WITH_NEGATIVE)["s1"]
    np.testing.assert_array_equal(found, [2, 3, 0, -1, NAN, NAN])


def test_a_lesion_on_a_negative_slide_needs_a_name(tmp_path: Path):
    path = _table(tmp_path, "s0,0,7,lesion", head="slide_id,x,y,verdict")
    with pytest.raises(TableError, match=r"line 2: slide s0 is of class normal, .* one of normal, a, b"):
        read_verdicts(path, [_bag("s0", 0)], task=WITH_NEGATIVE)
    path = _table(tmp_path, "s0,0,7,tumour", head="slide_id,x,y,verdict")
    with pytest.raises(TableError, match="expected one of lesion, normal, artefact, unsure, a, b"):
        read_verdicts(path, [_bag("s0", 0)], task=WITH_NEGATIVE)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (WITH_NEGATIVE, [[0, 0], [1, 0], [0, 1]]),
        (WITHOUT, [[0, 0, 0], [0, 1, 0], [0, 0, 1]]),
        (ORDERED, [[0, 0], [1, 0], [1, 1]]),
    ],
)
def test_a_verdict_answers_the_question_of_each_branch(task: TaskConfig, expected: list[list[int]]):
    """Of a normal patch, of one of the second class, of one of the third."""
    values = np.array([0, 2, 3, NAN], np.float32)
    found = instance_labels(values, task=task)
    np.testing.assert_array_equal(found[:3], expected)
    assert np.isnan(found[3]).all()


def test_judged_bags_of_many_classes_have_labels_for_each_branch():
    verdicts = {"s1": np.array([2, -1, 0, NAN, NAN, NAN], np.float32)}
    (bag,) = judged_bags([_bag("s1", 1)], verdicts=verdicts, task=WITH_NEGATIVE)
    assert len(bag) == 5
    np.testing.assert_array_equal(bag.instance_labels, [[1, 0], [0, 0], *[[NAN] * 2] * 3])


def test_a_budget_is_spent_by_the_branch_of_the_class_and_not_on_negative_bags():
    bags = [_bag("s0", 0), _bag("s2", 2)]
    known = {bag.slide_id: np.full(6, 3, np.float32) for bag in bags}
    flat = np.full(6, 1 / 6, np.float32)
    branches = tuple(BagScore(0.5, np.roll(np.eye(6, dtype=np.float32)[0], k), flat) for k in range(2))
    score = BagScore(0.5, branches[0].attention, flat, class_scores=np.ones(3) / 3, branches=branches)
    config = MiningConfig(verdict_budget=1)
    found = chosen_verdicts(
        bags,
        known=known,
        scores=[[score, score]],
        embed=lambda bag: bag.instances,
        config=config,
        seed=0,
        task=WITH_NEGATIVE,
    )
    assert list(found) == ["s2"]
    np.testing.assert_array_equal(found["s2"], [NAN, 3, NAN, NAN, NAN, NAN])


def test_a_class_on_a_patch_says_nothing_about_the_others_where_it_may_have_several():
    task = TaskConfig(names=("a", "b"), multi_label=True)
    found = instance_labels(np.array([0, 1, 2, NAN], np.float32), task=task)
    np.testing.assert_array_equal(found, [[0, 0], [1, NAN], [NAN, 1], [NAN, NAN]])
    values = verdicts.verdict_values(task)
    assert (values["none"], values["normal"], values["a"], values["b"]) == (0, 0, 1, 2)
