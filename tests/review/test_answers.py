from pathlib import Path

import pytest
from tests.support.many_classes import EXCLUSIVE, ORDERED, WITH_NEGATIVE, write_class_study
from tests.support.many_labels import MULTI, write_multi_study

from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.errors import ConfigError
from hardmil.preprocessing.study_folder import Study, open_study
from hardmil.review.answers import answers_of, check_answers, find_answer, words_of


def _keys(task: TaskConfig) -> dict[str, str]:
    return {one.key: one.word for one in answers_of(task)}


def test_two_classes_have_their_four_answers():
    assert _keys(TWO_CLASSES) == {"1": "normal", "2": "lesion", "3": "artefact", "0": "unsure"}
    assert all(one.title == one.word == one.kind and not one.class_name for one in answers_of(TWO_CLASSES))
    assert words_of(TWO_CLASSES) == ("lesion", "normal", "artefact", "unsure")


def test_a_digit_is_a_class_in_the_order_of_the_study():
    assert _keys(WITH_NEGATIVE) == {"1": "normal", "2": "a", "3": "b", "a": "artefact", "0": "unsure"}
    assert _keys(ORDERED) == {"1": "benign", "2": "low", "3": "high", "a": "artefact", "0": "unsure"}
    kinds = [(one.class_name, one.kind, one.tone) for one in answers_of(ORDERED)]
    assert kinds[:3] == [
        *[("benign", "normal", "normal"), ("low", "lesion", "lesion-1"), ("high", "lesion", "lesion-2")]
    ]
    assert kinds[3:] == [("", "artefact", "artefact"), ("", "unsure", "unsure")]


def test_without_a_negative_class_there_is_none_of_these():
    task = TaskConfig(names=("x", "y", "z"))
    assert _keys(task) == {"1": "x", "2": "y", "3": "z", "o": "normal", "a": "artefact", "0": "unsure"}
    assert next(one.title for one in answers_of(task) if one.word == "normal") == "none of these"


def test_classes_beyond_the_ninth_have_no_key():
    found = answers_of(TaskConfig(names=tuple(f"class {i}" for i in range(12))))
    assert [one.key for one in found] == [*"123456789", "", "", "", "o", "a", "0"]
    assert [one.tone for one in found[:7]] == [*(f"lesion-{i}" for i in range(1, 7)), "lesion-1"]


@pytest.mark.parametrize(
    ("text", "label", "word"),
    [
        *[("B", 1, "b"), ("normal", 1, "benign"), ("Artifact", 0, "artefact"), ("lesion", 2, "b")],
        *[("x", 1, None), ("lesion", 0, None), ("lesion", -1, None), ("unsure", -1, "unsure")],
    ],
)
def test_words_of_files(text: str, label: int, word: str | None):
    task = TaskConfig(names=("benign", "a", "b"), negative="benign")
    found = find_answer(text, task=task, label=label)
    assert (None if found is None else found.word) == word


def test_words_of_files_with_two_classes_need_no_label():
    found = find_answer("Lesion", task=TWO_CLASSES, label=-1)
    assert found is not None
    assert found.word == "lesion"


def _named(folder: Path, *names: str, negative: str = "") -> Study:
    write_class_study(folder, n=3)
    more = f"negative: {negative}\n" if negative else "negative: null\n"
    text = (folder / "study.yaml").read_text().replace("negative: normal\n", more)
    (folder / "study.yaml").write_text(text.replace("[normal, a, b]", f"[{', '.join(names)}]"))
    table = (folder / "slides.csv").read_text().splitlines()
    rows = [f"{line.rpartition(',')[0]},{name}" for line, name in zip(table[1:], names, strict=True)]
    (folder / "slides.csv").write_text("\n".join([table[0], *rows]) + "\n")
    return open_study(folder)


def test_a_class_must_not_have_the_name_of_another_verdict(tmp_path: Path):
    with pytest.raises(ConfigError, match="a class is named Unsure, and so is a verdict that fits no class"):
        check_answers(_named(tmp_path / "1", "normal", "Unsure", "b", negative="normal"))
    with pytest.raises(ConfigError, match=r"named normal, .*study\.yaml, or name it as `negative`"):
        check_answers(_named(tmp_path / "2", "normal", "lesion", "b"))
    check_answers(_named(tmp_path / "3", "normal", "lesion", "b", negative="normal"))
    assert [one.word for one in answers_of(EXCLUSIVE)][:3] == ["normal", "a", "b"]


def test_each_class_of_a_study_of_several_labels_has_a_digit_and_none_is_negative():
    assert _keys(MULTI) == {"1": "a", "2": "b", "3": "c", "o": "normal", "a": "artefact", "0": "unsure"}
    found = answers_of(MULTI)
    assert [(one.class_name, one.kind, one.tone) for one in found[:3]] == [
        *[("a", "lesion", "lesion-1"), ("b", "lesion", "lesion-2"), ("c", "lesion", "lesion-3")]
    ]
    assert (found[3].title, found[3].kind, found[3].class_name) == ("none of these", "normal", "")


@pytest.mark.parametrize(
    ("text", "label", "word"),
    [
        *[("None", 0b011, "normal"), ("normal", 0b011, "normal"), ("A", 0b100, "a"), ("c", 0, "c")],
        *[("lesion", 0b001, "a"), ("lesion", 0b100, "c"), ("lesion", 0b011, None), ("lesion", 0, None)],
    ],
)
def test_words_of_files_with_several_labels(text: str, label: int, word: str | None):
    found = find_answer(text, task=MULTI, label=label)
    assert (None if found is None else found.word) == word


def test_with_several_labels_no_class_is_named_normal(tmp_path: Path):
    folder = write_multi_study(tmp_path / "study")
    check_answers(open_study(folder))
    for name in ("study.yaml", "slides.csv"):
        text = (folder / name).read_text(encoding="utf-8")
        changed = text.replace("[a, b, c]", "[normal, b, c]").replace("case_id,a,", "case_id,Normal,")
        (folder / name).write_text(changed, encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"named normal, .*or remove it: a slide without any class needs none"
    ):
        check_answers(open_study(folder))
