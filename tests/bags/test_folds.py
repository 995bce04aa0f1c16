import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from hardmil.bags import folds as folds_module
from hardmil.bags.folds import (
    Fold,
    check_classes,
    check_folds,
    fewest_cases,
    inner_folds,
    possible_inner_folds,
    repeated_folds,
)
from hardmil.bags.split_files import read_splits
from hardmil.config.task import TaskConfig
from hardmil.errors import FoldError, TableError

# Cases of one to three slides, each with a label; at least two cases of each class.
CASES = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=3), min_size=1, max_size=12).map(
    lambda cases: [*cases, [0], [0], [1], [1]]
)


def _flat(cases: list[list[int]]) -> tuple[np.ndarray, list[str]]:
    names = [f"c{i}" for i, labels in enumerate(cases) for _ in labels]
    return np.array([label for labels in cases for label in labels]), names


@given(CASES, st.integers(0, 10))
def test_each_bag_is_tested_once_per_repeat_and_no_case_is_split(cases: list[list[int]], seed: int):
    labels, names = _flat(cases)
    try:
        repeats = repeated_folds(labels, names, n_folds=2, n_repeats=3, seed=seed)
    except FoldError:
        # Large cases can put all slides of a label into one fold.
        reject()
    assert [len(folds) for folds in repeats] == [2, 2, 2]
    for folds in repeats:
        tested = np.concatenate([fold.test for fold in folds])
        np.testing.assert_array_equal(np.sort(tested), np.arange(len(labels)))
        for fold in folds:
            both = np.concatenate([fold.train, fold.test])
            np.testing.assert_array_equal(np.sort(both), np.arange(len(labels)))
            assert not {names[i] for i in fold.train} & {names[i] for i in fold.test}


@pytest.mark.parametrize("grouped", [False, True])
def test_same_seed_same_folds_and_repeats_differ(grouped: bool):
    labels = np.arange(40) % 2
    names = [f"c{i // 2 if grouped else i}" for i in range(40)]

    def tests(seed: int) -> list[list[list[int]]]:
        repeats = repeated_folds(labels, names, n_folds=4, n_repeats=2, seed=seed)
        return [[fold.test.tolist() for fold in folds] for folds in repeats]

    assert tests(7) == tests(7)
    assert tests(7) != tests(8)
    assert tests(7)[0] != tests(7)[1]


@pytest.mark.parametrize("grouped", [False, True])
def test_classes_are_spread_evenly(grouped: bool):
    labels = np.repeat([0, 0, 0, 1], 10)
    names = [f"c{i // 2 if grouped else i}" for i in range(40)]
    for fold in repeated_folds(labels, names, n_folds=5, n_repeats=1, seed=0)[0]:
        assert labels[fold.test].tolist().count(1) == 2
        assert len(fold.test) == 8


def test_too_few_cases_are_refused():
    labels, names = np.array([0, 0, 0, 1, 1, 1]), ["a", "b", "c", "d", "d", "e"]
    message = r"positive class: 2 cases for 3 folds; .*use 2 folds \(evaluation\.folds\), or add cases"
    with pytest.raises(FoldError, match=message):
        repeated_folds(labels, names, n_folds=3, n_repeats=1, seed=0)
    with pytest.raises(FoldError, match=r"positive class: 0 cases for 2 folds; .*; add cases"):
        repeated_folds(labels[:3], names[:3], n_folds=2, n_repeats=1, seed=0)


def test_inner_folds_are_limited_by_the_rarer_class():
    labels, names = np.array([0, 0, 0, 0, 1, 1, 1]), list("abcdefg")
    assert len(inner_folds(labels, names, n_folds=5, seed=0)) == 3
    assert len(inner_folds(labels, names, n_folds=2, seed=0)) == 2
    with pytest.raises(
        FoldError, match=r"positive class: 1 cases among the training bags; .*mining\.source train"
    ):
        inner_folds(labels[:5], names[:5], n_folds=4, seed=0)


def test_inner_folds_are_drawn_by_the_seed():
    labels, names = np.arange(40) % 2, [f"c{i}" for i in range(40)]
    first, again, other = (
        [fold.test.tolist() for fold in inner_folds(labels, names, n_folds=4, seed=seed)]
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_a_case_in_two_parts_of_a_fold_is_named():
    fold = Fold(train=np.array([0, 1]), test=np.array([2]), validation=np.array([3]))
    check_folds([fold], ["a", "a", "b", "c"])
    with pytest.raises(FoldError, match="fold 1: case a is in train and in test"):
        check_folds([Fold(np.array([1]), np.array([2])), fold], ["a", "b", "a", "c"])
    with pytest.raises(FoldError, match="fold 0: case c is in validation and in test"):
        check_folds([fold], ["a", "b", "c", "c"])


def test_a_training_side_with_one_label_is_named():
    labels = np.array([0, 0, 1, 1])
    fold = Fold(train=np.array([0, 2]), test=np.array([1, 3]))
    only_negative = Fold(train=np.array([0, 1]), test=np.array([2]), validation=np.array([3]))
    check_classes([fold, only_negative], labels)
    with pytest.raises(FoldError, match=r"fold 1: all 2 training slides are negative; expected both labels"):
        check_classes([fold, Fold(only_negative.train, only_negative.test)], labels)
    with pytest.raises(FoldError, match=r"fold 0: all 3 training slides are positive; .*correct the splits"):
        check_classes([Fold(np.array([0, 1]), np.array([3]), np.array([2]))], 1 - labels // 4)


def test_too_few_cases_of_one_of_many_classes_are_refused():
    labels, cases = np.array([0, 0, 0, 1, 1, 1, 2, 2]), list("abcdefgh")
    with pytest.raises(FoldError, match=r"class high: 2 cases for 3 folds; .*use 2 folds"):
        repeated_folds(labels, cases, n_folds=3, n_repeats=1, seed=0, names=("benign", "low", "high"))
    with pytest.raises(FoldError, match=r"class 3 of 3: 1 cases among the training bags"):
        inner_folds(labels[:7], cases[:7], n_folds=2, seed=0)
    assert fewest_cases(labels, cases) == 2


def test_a_training_side_without_one_of_many_classes_is_named():
    labels = np.array([0, 1, 2, 0, 1, 2])
    fold = Fold(train=np.array([0, 1, 2]), test=np.array([3, 4, 5]))
    check_classes([fold], labels)
    lacking = Fold(train=np.array([0, 2, 3]), test=np.array([1, 4, 5]))
    with pytest.raises(FoldError, match=r"fold 1: no training slide is of class low; expected slides of all"):
        check_classes([fold, lacking], labels, names=("benign", "low", "high"))


def test_many_classes_are_spread_evenly():
    labels, cases = np.arange(36) % 4, [f"c{i}" for i in range(36)]
    (folds,) = repeated_folds(labels, cases, n_folds=3, n_repeats=1, seed=0)
    for fold in folds:
        assert np.bincount(labels[fold.test]).tolist() == [3, 3, 3, 3]


def test_a_draw_that_puts_all_slides_of_a_label_into_one_test_fold_is_refused():
    labels = np.array([0, 0, 1, 1, 1, 0, 1, 1, 1, 1])
    cases = ["a", "a", "b", "b", "b", "b", "c", "d", "d", "d"]
    message = r"fold \d: all 4 training slides are positive"
    with pytest.raises(FoldError, match=message):
        repeated_folds(labels, cases, n_folds=2, n_repeats=1, seed=504)
    drawn = [possible_inner_folds(labels, cases, n_folds=2, seed=seed) for seed in range(60)]
    assert {len(folds) for folds in drawn} <= {0, 2}
    for folds in drawn:
        check_classes(folds, labels)


def test_inner_folds_that_cannot_be_drawn_are_none():
    labels, names = np.array([0, 0, 0, 0, 1, 1]), list("abcdef")
    assert len(possible_inner_folds(labels, names, n_folds=2, seed=0)) == 2
    assert possible_inner_folds(labels[:5], names[:5], n_folds=2, seed=0) == []


@pytest.mark.parametrize("draw", [repeated_folds, inner_folds])
def test_drawn_folds_are_checked(draw: Callable[..., object], monkeypatch: pytest.MonkeyPatch):
    leaking = [Fold(np.array([2, 3]), np.array([0, 1])), Fold(np.array([0, 1, 3]), np.array([2]))]
    monkeypatch.setattr(folds_module, "_draw", lambda *_, **__: leaking)
    repeats = {} if draw is inner_folds else {"n_repeats": 1}
    with pytest.raises(FoldError, match="fold 1: case c is in train and in test"):
        draw(np.array([0, 1, 0, 1]), ["a", "b", "c", "c"], n_folds=2, seed=0, **repeats)


def _clam_splits(folder: Path, number: int, columns: dict[str, list[str]]) -> None:
    """A table as CLAM writes it: an unnamed index first, short columns padded with empty cells."""
    longest = max(map(len, columns.values()))
    padded = [ids + [""] * (longest - len(ids)) for ids in columns.values()]
    lines = [",".join(("", *columns))] + [
        ",".join((str(i), *row)) for i, row in enumerate(zip(*padded, strict=True))
    ]
    (folder / f"splits_{number}.csv").write_text("\n".join(lines) + "\n")
    (folder / f"splits_{number}_bool.csv").write_text(",train,val,test\n001,True,False,False\n")


def test_clam_splits_in_order_of_their_number(tmp_path: Path):
    ids = ["001", "002", "003", "004"]
    for number in (0, 2, 10):
        train = [ids[number % 3]]
        _clam_splits(tmp_path, number, {"train": ["004", *train], "val": [], "test": ["002"]})
    _clam_splits(tmp_path, 1, {"train": ["001"], "val": ["003"], "test": ["004"]})
    folds = read_splits(tmp_path, ids)
    assert [fold.train.tolist() for fold in folds] == [[0, 3], [0], [2, 3], [1, 3]]
    assert [fold.test.tolist() for fold in folds] == [[1], [3], [1], [1]]
    validation = folds[1].validation
    assert validation is not None
    assert validation.tolist() == [2]
    assert folds[0].validation is None


def test_failed_slides_are_left_out_of_the_splits(tmp_path: Path):
    _clam_splits(tmp_path, 0, {"train": ["a", "bad"], "val": ["bad"], "test": ["b"]})
    fold = read_splits(tmp_path, ["a", "b"], failed=["bad"])[0]
    assert (fold.train.tolist(), fold.test.tolist(), fold.validation) == ([0], [1], None)


def test_invalid_splits_are_refused(tmp_path: Path):
    with pytest.raises(TableError, match=r"no splits_0\.csv; expected splits of CLAM"):
        read_splits(tmp_path, ["a"])
    with pytest.raises(TableError, match=r"no splits_0\.csv"):
        read_splits(tmp_path / "none", ["a"])
    _clam_splits(tmp_path, 0, {"train": ["a", "x", "y"], "val": [], "test": ["b"]})
    with pytest.raises(TableError, match=r"splits_0\.csv, column train: 2 slides are not in the table, .*x"):
        read_splits(tmp_path, ["a", "b"])
    _clam_splits(tmp_path, 0, {"train": ["a"], "validation": [], "tset": ["b"]})
    with pytest.raises(TableError, match="no column test; found train, validation, tset; expected columns"):
        read_splits(tmp_path, ["a", "b"])
    _clam_splits(tmp_path, 0, {"train": ["a", "b"], "val": [], "test": []})
    with pytest.raises(TableError, match="no slides in test; expected some in train and in test"):
        read_splits(tmp_path, ["a", "b"])
    (tmp_path / "splits_0.csv").write_bytes(b"train,test\n\xe4,b\n")
    with pytest.raises(TableError, match=r"splits_0\.csv, line 2: not UTF-8"):
        read_splits(tmp_path, ["a", "b"])


def _fold_table(folder: Path, *lines: str, head: str = "slide_id,fold_1,fold_0,label") -> Path:
    path = folder / "folds.csv"
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8-sig")
    return path


def test_folds_in_columns_of_a_table(tmp_path: Path):
    lines = ("003,train,test,1", "001, Train ,train,0", "bad,test,train,0", "002,val,,1", "004,test,train,0")
    first, second = read_splits(_fold_table(tmp_path, *lines), ["001", "002", "003", "004"], failed=["bad"])
    assert (first.train.tolist(), first.test.tolist(), first.validation) == ([0, 3], [2], None)
    assert (second.train.tolist(), second.test.tolist()) == ([0, 2], [3])
    assert second.validation is not None
    assert second.validation.tolist() == [1]


@pytest.mark.parametrize(
    ("lines", "head", "message"),
    [
        (["a,train"], "slide_id,fold", "no columns slide_id and fold_0"),
        (["a,train"], "slide,fold_0", "no columns slide_id and fold_0"),
        ([], "slide_id,fold_0", "column fold_0: no slides in train"),
        (["a,train", "b,tset"], "slide_id,fold_0", "line 3: fold_0 is 'tset'; expected train, val or test"),
        (["a,train", "x,test"], "slide_id,fold_0", "column fold_0: 1 slides are not in the table, .*x"),
        (["a,train", "b,val"], "slide_id,fold_0", "column fold_0: no slides in test"),
    ],
)
def test_invalid_columns_of_folds_are_refused(tmp_path: Path, lines: list[str], head: str, message: str):
    with pytest.raises(TableError, match=message):
        read_splits(_fold_table(tmp_path, *lines, head=head), ["a", "b"])


def _column(path: Path, name: str) -> list[str]:
    with path.open(newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def test_colon_folds_by_image_separate_adjacent_tiles_and_folds_by_group_do_not(data_dir: Path):
    from scipy.io import loadmat

    colon = data_dir / "CRCHistoPhenotypes_2016_04_28"
    groups = _column(colon / "abutting_groups.csv", "group_0.45_plus_by_eye")
    images = _column(colon / "abutting_groups.csv", "img")
    nuclei = [colon / "Classification" / f"img{i}" / f"img{i}_epithelial.mat" for i in images]
    labels = np.array([int(len(loadmat(path)["detection"]) > 0) for path in nuclei])
    assert labels.sum() == 51
    edges = [_column(colon / "abutting_edges.csv", name) for name in ("img_a", "img_b")]
    pairs = [(images.index(a), images.index(b)) for a, b in zip(*edges, strict=True)]
    assert len(pairs) == 61

    def n_cut(cases: list[str]) -> int:
        folds = repeated_folds(labels, cases, n_folds=10, n_repeats=1, seed=0)[0]
        tested_in = {int(i): number for number, fold in enumerate(folds) for i in fold.test}
        return sum(tested_in[a] != tested_in[b] for a, b in pairs)

    by_image = n_cut(images)
    assert by_image > 20, by_image
    assert n_cut(groups) == 0


def test_splits_of_clam_with_empty_cells_and_other_spellings_of_their_columns(tmp_path: Path):
    (tmp_path / "splits_0.csv").write_text(",Train,Val,Test\n0,a,c,d\n1,b,nan,\n")
    (fold,) = read_splits(tmp_path, ["a", "b", "c", "d"])
    assert (fold.train.tolist(), fold.test.tolist()) == ([0, 1], [3])
    assert fold.validation is not None
    assert fold.validation.tolist() == [2]


MULTI = TaskConfig(names=("a", "b"), multi_label=True)


def _strata(labels: list[int]) -> np.ndarray:
    return MULTI.fold_labels(np.array(labels))


@given(st.lists(st.integers(0, 3), min_size=4, max_size=30), st.integers(0, 5))
def test_folds_of_several_labels_have_both_answers_of_each_class_in_training(labels: list[int], seed: int):
    labels = [*labels, 0, 0, 3, 3]
    cases = [f"c{i // 2}" if i < len(labels) - 4 else f"d{i}" for i in range(len(labels))]
    folds = repeated_folds(_strata(labels), cases, n_folds=2, n_repeats=2, seed=seed)
    for repeat in folds:
        assert sorted(i for fold in repeat for i in fold.test.tolist()) == list(range(len(labels)))
        check_folds(repeat, cases)
        for fold in repeat:
            assert _strata(labels)[fold.train].any(axis=0).all()


def test_too_few_cases_with_or_without_a_class_are_named():
    cases = ["c0", "c1", "c2", "c3"]
    message = r"slides without class b: 1 cases for 2 folds; expected at least one per fold; add cases"
    with pytest.raises(FoldError, match=message):
        repeated_folds(_strata([2, 3, 2, 1]), cases, n_folds=2, n_repeats=1, seed=0, names=("a", "b"))
    with pytest.raises(FoldError, match=r"slides with class 1 of 2: 1 cases among the training bags"):
        inner_folds(_strata([2, 3, 0, 0]), cases, n_folds=2, seed=0)
    assert fewest_cases(_strata([2, 3, 0, 0]), cases) == 1


def test_a_training_side_without_a_class_is_named():
    fold = Fold(train=np.array([0, 1]), test=np.array([2, 3]))
    with pytest.raises(FoldError, match=r"fold 0: no slides with class b among the 2 training slides"):
        check_classes([fold], _strata([0, 1, 2, 3]), names=("a", "b"))


def test_few_cases_are_drawn_until_each_training_side_has_all_answers():
    """Four cases, of which only one way of halving keeps both answers of both classes on both sides."""
    labels, cases = [0b11, 0b01, 0b10, 0b00], ["c0", "c1", "c2", "c3"]
    for seed in range(10):
        folds = inner_folds(_strata(labels), cases, n_folds=2, seed=seed)
        assert {tuple(fold.test.tolist()) for fold in folds} == {(0, 3), (1, 2)}
