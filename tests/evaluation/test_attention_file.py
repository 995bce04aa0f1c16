from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.support.many_classes import EXCLUSIVE, NAMES, class_score

from hardmil.bags.bag import Bag
from hardmil.errors import FeatureFileError
from hardmil.evaluation.attention_file import read_attention, read_branch, read_score, write_attention
from hardmil.mil.bag_score import BagScore


def _bag(slide_id: str, label: int, n: int = 3) -> Bag:
    coords = np.arange(2 * n).reshape(n, 2)
    return Bag(slide_id, "c1", label, np.zeros((n, 2), np.float32), coords, 16)


def _score(value: float, n: int = 3) -> BagScore:
    return BagScore(value, np.linspace(0.1, 0.5, n), np.zeros(n))


def test_attention_is_read_back(tmp_path: Path):
    path, bags = tmp_path / "attention.h5", [_bag("a", 0), _bag("b", 1, 5)]
    write_attention(path, bags, scores=[_score(0.2), _score(0.8, 5)])
    attention, coords = read_attention(path, slide_id="b")
    np.testing.assert_array_equal(attention, np.linspace(0.1, 0.5, 5))
    np.testing.assert_array_equal(coords, bags[1].coords)


def test_a_score_is_read_back_as_it_was_kept(tmp_path: Path) -> None:
    bag, score = _bag("s1", 1), _score(0.7)
    score = replace(score, contribution=score.attention - 0.2, bias=0.25)
    path = tmp_path / "attention.h5"
    write_attention(path, [bag], scores=[score])
    back = read_score(path, slide_id="s1")
    assert (back.bag_score, back.bias) == (0.7, 0.25)
    assert back.contribution is not None
    np.testing.assert_array_equal(back.contribution, score.contribution)
    np.testing.assert_array_equal(back.instance_logit, score.instance_logit)
    with h5py.File(path, "a") as file:
        for name in ("instance_logits", "contributions"):
            del file["s1"][name]
    old = read_score(path, slide_id="s1")
    assert old.contribution is None
    assert not old.instance_logit.any()


def test_each_branch_is_read_back(tmp_path: Path):
    path, bag = tmp_path / "attention.h5", _bag("s1", 2, 5)
    score = class_score(bag, [0.2, 0.3, 0.5])
    write_attention(path, [bag], scores=[score], class_names=EXCLUSIVE.branch_names)
    np.testing.assert_array_equal(read_score(path, slide_id="s1").attention, score.branches[2].attention)
    for name, branch in zip(NAMES, score.branches, strict=True):
        back = read_branch(path, slide_id="s1", class_name=name)
        assert (back.bag_score, back.bias) == (branch.bag_score, branch.bias)
        np.testing.assert_array_equal(back.attention, branch.attention)
        np.testing.assert_array_equal(back.instance_logit, branch.instance_logit)
        np.testing.assert_array_equal(back.contribution, branch.contribution)
    with pytest.raises(FeatureFileError, match="lesion c"):
        read_branch(path, slide_id="s1", class_name="lesion c")


def test_branches_without_contributions_are_read_back(tmp_path: Path):
    path, bag = tmp_path / "attention.h5", _bag("s1", 2, 5)
    score = class_score(bag, [0.2, 0.3, 0.5])
    bare = replace(score, branches=tuple(replace(one, contribution=None) for one in score.branches))
    write_attention(path, [bag], scores=[bare], class_names=NAMES)
    assert read_branch(path, slide_id="s1", class_name="a").contribution is None


def test_what_is_not_of_this_file_or_not_numbers_is_refused_by_name(tmp_path: Path):
    path, bag = tmp_path / "attention.h5", _bag("s1", 1)
    write_attention(path, [bag], scores=[_score(0.7)])
    (tmp_path / "other.bin").write_bytes(bytes(24))
    with h5py.File(path, "a") as file:
        del file["s1/instance_logits"]
        external = [(str(tmp_path / "other.bin"), 0, 24)]
        file.create_dataset("s1/instance_logits", shape=(3,), dtype="float64", external=external)
        file["s2"] = np.zeros(3)
    with pytest.raises(FeatureFileError, match=r"s1/instance_logits has its values in .*other.bin"):
        read_score(path, slide_id="s1")
    with pytest.raises(FeatureFileError, match=r"attention.h5: "):
        read_score(path, slide_id="s2")


def test_an_attribute_of_another_kind_does_not_end_the_process(tmp_path: Path):
    """A list of numbers of any length: if damaged, reading it ends the process."""
    path, bag = tmp_path / "attention.h5", _bag("s1", 1)
    write_attention(path, [bag], scores=[_score(0.7)])
    with h5py.File(path, "a") as file:
        lists = np.empty(1, dtype=object)
        lists[0] = np.ones(3)
        file["s1"].attrs.create("bag_score", lists, dtype=h5py.vlen_dtype(np.float64))
    with pytest.raises(FeatureFileError, match="bag_score"):
        read_score(path, slide_id="s1")
