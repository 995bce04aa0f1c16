from pathlib import Path

import pytest

from hardmil.bags.slide_table import SlideTable, read_slide_table
from hardmil.errors import TableError

CLASSES = ("tumour", "necrosis")


def read(folder: Path, text: str, *, labels_required: bool = True) -> SlideTable:
    path = folder / "slides.csv"
    path.write_text(text, encoding="utf-8")
    return read_slide_table(
        path,
        classes=CLASSES,
        multi_label=True,
        labels_required=labels_required,
        paths_required=False,
    )


def test_each_class_has_a_column_of_ones_and_zeros(tmp_path: Path):
    lines = [
        "slide_id,case_id,Necrosis,tumour,label",
        "s0,c0,0,0,x",
        "s1,c0,0,1,x",
        "s2,c1,1,0,",
        "s3,c1,1,1,",
    ]
    table = read(tmp_path, "\n".join(lines))
    assert [row.label for row in table.rows] == ["none", "tumour", "necrosis", "tumour + necrosis"]
    assert [table.class_index(row) for row in table.rows] == [0, 1, 2, 3]
    assert table.classes == CLASSES


HEAD = "slide_id,case_id,tumour,necrosis"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"{HEAD}\ns0,c0,1,yes\n",
            r'line 2: slide s0: column necrosis has "yes"; expected 1 if the slide has necrosis, or 0 if not',
        ),
        (f"{HEAD}\ns0,c0,1,0\ns1,c1,,1\n", r"line 3: slide s1: column tumour has an empty cell; expected 1"),
        (f"{HEAD}\ns0,c0,1,1.0\n", r'column necrosis has "1.0"; expected 1'),
        (f"{HEAD}\ns0,c0,,\n", r"line 2: slide s0: the columns tumour, necrosis are empty; expected 1 or 0"),
        (
            "slide_id,case_id,label\ns0,c0,tumour\n",
            r"no column tumour and no column necrosis; found slide_id, case_id, label; expected a column for "
            r"each class, tumour, necrosis, with 1 or 0 for each slide; the column label is not used",
        ),
        (f"{HEAD}\ns0,c0,1,0\ns1,c1,1,1\n", r"all 2 slides have class tumour; expected slides with it and"),
        (f"{HEAD}\ns0,c0,1,0\ns1,c1,0,0\n", r"no slide has class necrosis; expected slides with it and"),
    ],
)
def test_what_is_not_a_label_is_refused(tmp_path: Path, text: str, message: str):
    with pytest.raises(TableError, match=message):
        read(tmp_path, text)


def test_a_class_cannot_have_the_name_of_another_column(tmp_path: Path):
    path = tmp_path / "slides.csv"
    path.write_text("slide_id,case_id,path,b\ns0,c0,1,0\n", encoding="utf-8")
    with pytest.raises(TableError, match=r"class path of study.yaml has the name of another column"):
        read_slide_table(path, classes=("path", "b"), multi_label=True, paths_required=False)


def test_slides_to_predict_need_no_labels(tmp_path: Path):
    without = read(tmp_path, "slide_id,case_id\ns0,c0\n", labels_required=False)
    assert [without.class_index(row) for row in without.rows] == [-1]
    some = read(tmp_path, f"{HEAD}\ns0,c0,,\ns1,c1,0,1\n", labels_required=False)
    assert [some.class_index(row) for row in some.rows] == [-1, 2]
    with pytest.raises(TableError, match=r"no column necrosis; found slide_id, case_id, tumour"):
        read(tmp_path, "slide_id,case_id,tumour\ns0,c0,1\n", labels_required=False)
    with pytest.raises(TableError, match=r"column necrosis has an empty cell"):
        read(tmp_path, f"{HEAD}\ns0,c0,1,\n", labels_required=False)
