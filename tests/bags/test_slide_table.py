from functools import partial
from pathlib import Path

import pytest

from hardmil.bags.slide_table import SlideRow, SlideTable, read_slide_table
from hardmil.errors import TableError


def _write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "slides.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_table_is_read(tmp_path: Path):
    path = _write(
        tmp_path,
        "label,slide_id,case_id,path,mpp,note\n"
        "tumour,007,0012,sub/a.svs,0.25,x\n"
        "normal, a b ,0012,/data/b.svs,,\n",
    )
    assert read_slide_table(path) == SlideTable(
        rows=(
            SlideRow("007", "0012", "tumour", tmp_path / "sub/a.svs", 0.25),
            SlideRow("a b", "0012", "normal", Path("/data/b.svs"), None),
        ),
        classes=("normal", "tumour"),
    )


@pytest.mark.parametrize(
    ("header", "cell", "slide_id"),
    [
        ("slide_id", "x.svs", "x.svs"),
        ("slide", "x.svs", "x"),
        ("FILENAME", "x.h5", "x"),
        ("FILENAME", "TCGA-1.2.uuid.h5", "TCGA-1.2.uuid"),
        ("wsi", "x.ndpi", "x"),
        ("wsi", "x.1", "x.1"),
    ],
)
@pytest.mark.parametrize("case", ["case_id", "case", "patient", "PATIENT", "patient_id"])
def test_aliases(tmp_path: Path, header: str, cell: str, slide_id: str, case: str):
    path = _write(tmp_path, f"{header},{case},label\n{cell},c1,0\ny,c2,1\n")
    row = read_slide_table(path, paths_required=False).rows[0]
    assert (row.slide_id, row.case_id, row.path) == (slide_id, "c1", None)


@pytest.mark.parametrize("column", ["Ward", "fall"])
def test_a_table_without_a_column_of_cases_names_the_columns_found(tmp_path: Path, column: str):
    path = _write(tmp_path, f"slide_id,label,{column}\na,0,c\nb,1,c\n")
    found = rf"slides\.csv: no column of cases; found slide_id, label, {column}; expected case_id, .*patient"
    with pytest.raises(TableError, match=rf"{found}.*study\.yaml: cases: slide"):
        read_slide_table(path, paths_required=False)
    for cases in ("slide", "column-or-slide"):
        rows = read_slide_table(path, cases=cases, paths_required=False).rows
        assert [row.case_id for row in rows] == ["a", "b"]


def test_slides_that_are_cases_on_purpose_ignore_the_column(tmp_path: Path):
    path = _write(tmp_path, "slide_id,case_id,label\na,c,0\nb,,1\n")
    rows = read_slide_table(path, cases="slide", paths_required=False).rows
    assert [row.case_id for row in rows] == ["a", "b"]
    with pytest.raises(TableError, match="line 3: slide b has no case_id"):
        read_slide_table(path, cases="column-or-slide", paths_required=False)


def test_na_as_r_writes_it_is_an_empty_cell(tmp_path: Path):
    path = _write(tmp_path, "slide_id,case_id,label,path,mpp\nNAB,c,NA,NA,NA\nNA,NA,NA,NA,NA\n")
    read = partial(read_slide_table, path, labels_required=False)
    assert read(paths_required=False).rows == (SlideRow("NAB", "c"),)
    with pytest.raises(TableError, match="line 2: slide NAB has no path"):
        read()
    with pytest.raises(TableError, match="line 2: slide NAB has no label"):
        read_slide_table(path, paths_required=False)
    with pytest.raises(TableError, match="line 3: slide b has no case_id; fill in its patient"):
        read_slide_table(_write(tmp_path, "slide_id,case_id,label\na,c,0\nb,NA,1\n"), paths_required=False)


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_tables_saved_by_spreadsheets_are_read(tmp_path: Path, separator: str, encoding: str, newline: str):
    lines = ("slide_id,label,path", 'ä,normal,"a,b.svs"', "b,tumour,b.svs", ",,", "")
    text = newline.join(line.replace(",", separator) for line in lines)
    found = read_slide_table(_write(tmp_path, text, encoding), cases="slide")
    assert [row.slide_id for row in found.rows] == ["ä", "b"]
    assert found.rows[0].path == tmp_path / f"a{separator}b.svs"


def test_quoted_line_break_keeps_line_numbers(tmp_path: Path):
    path = _write(tmp_path, 'slide_id,label,note\na,0,"one\ntwo"\nb,1,\nb,1,\n')
    with pytest.raises(TableError, match="line 5: slide b is listed twice, first in line 4"):
        read_slide_table(path, cases="slide", paths_required=False)


def test_positive_is_the_label_that_is_not_negative_or_the_named_one(tmp_path: Path):
    path = _write(tmp_path, "slide_id,label\na,benign\nb,malignant\n")
    found = read_slide_table(path, cases="slide", paths_required=False)
    assert [found.class_index(row) for row in found.rows] == [0, 1]
    turned = read_slide_table(path, positive="benign", cases="slide", paths_required=False)
    assert turned.classes == ("malignant", "benign")
    assert [turned.class_index(row) for row in turned.rows] == [1, 0]


def test_a_case_may_hold_both_labels(tmp_path: Path):
    path = _write(tmp_path, "slide_id,case_id,label\na,c,0\nb,c,1\n")
    assert read_slide_table(path, paths_required=False).classes == ("0", "1")


def test_labels_may_be_missing_if_not_required(tmp_path: Path):
    path = _write(tmp_path, "slide_id,path\na,a.svs\n")
    found = read_slide_table(path, cases="slide", labels_required=False)
    assert found.classes == ()
    assert found.class_index(found.rows[0]) == -1


def test_one_label_if_not_required(tmp_path: Path):
    path = _write(tmp_path, "slide_id,label\na,normal\nb,\n")

    def read(positive: str | None) -> SlideTable:
        return read_slide_table(
            path, positive=positive, labels_required=False, cases="slide", paths_required=False
        )

    named = read("tumour")
    assert named.classes == ("normal", "tumour")
    assert [named.class_index(row) for row in named.rows] == [0, -1]
    assert read("normal").class_index(named.rows[0]) == 1
    with pytest.raises(TableError, match=r'slide a: "normal" is the only label.*name it with `positive:`'):
        read(None).class_index(named.rows[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide_id,Lable\na,0\n", r'no column label; found slide_id, Lable; rename "Lable" to label'),
        ("name,label\na,0\n", r"no column slide_id; found name, label; add a column slide_id"),
        ("", r"no column slide_id; found an empty header"),
        ("slide_id,grade\na,1\nb,0\n", r"found slide_id, grade; add a column label$"),
        (
            "slide_id,lesion,stroma\na,1,0\nb,0,1\n",
            r"add a column label; or, if lesion and stroma are classes .* classes: \[lesion, stroma\] and",
        ),
        ("slide_id,label,label\na,0,1\n", r"2 columns are named label; expected one"),
        ("slide_id,label\n", r"no slides below the header"),
        ("slide_id,label\na,0\nb,0\n", r'all 2 slides are labelled "0"; expected two labels'),
        ("slide_id,label\na,0\nb,1\nc,2\n", r"3 labels: 0 \(1\), 1 \(1\), 2 \(1\); expected two"),
        ("slide_id,label\na,0\nb,1\na,1\n", r'line 4: slide a is labelled "1" here and "0" in line 2'),
        ("slide_id,label\na,0\nb,1\na,0\n", r"line 4: slide a is listed twice, first in line 2; remove one"),
        ("slide_id,label\na,0\n ,1\n", r"line 3: empty slide_id; give every slide an id"),
        ("slide_id,label\na,0\nx/b,1\n", r'line 3: slide id "x/b" cannot be a file name'),
        ("slide_id,label\na,0\nx\\b,1\n", r"line 3: slide id .* cannot be a file name; .* column path"),
        ("slide_id,label\na,0\n..,1\n", r'line 3: slide id "\.\." cannot be a file name'),
        ("slide_id,label\na,0\nb,\n", r"line 3: slide b has no label; fill it in or remove the line"),
        (
            'slide_id,mpp,label\na,"0,2,5",0\n',
            r'line 2: slide a: mpp is "0,2,5"; expected micrometres per pixel, such as 0\.25',
        ),
        ("slide_id,mpp,label\na,46,0\n", r"slide a: mpp is 46 um/px; expected 0\.05 to 10, .* decimal point"),
        ("slide_id,mpp,label\na,0.00046,0\n", r"mpp is 0\.00046 um/px; expected 0\.05 to 10"),
        ("slide_id,mpp,label\na,-1,0\n", r'mpp is "-1"'),
        ("slide_id,mpp,label\na,half,0\n", r'mpp is "half"'),
        ("slide_id,mpp,label\na,inf,0\n", r'mpp is "inf"'),
        ("slide_id,label\na,0,x\n", r"line 2: 3 cells under 2 columns; put a cell .* double quotes"),
    ],
)
def test_invalid_tables_are_named(tmp_path: Path, text: str, message: str):
    with pytest.raises(TableError, match=rf"slides\.csv.*{message}"):
        read_slide_table(_write(tmp_path, text), cases="slide", paths_required=False)


def test_missing_paths_are_named(tmp_path: Path):
    with pytest.raises(TableError, match="no column path"):
        read_slide_table(_write(tmp_path, "slide_id,label\na,0\nb,1\n"), cases="slide")
    with pytest.raises(TableError, match="line 3: slide b has no path"):
        read_slide_table(_write(tmp_path, "slide_id,label,path\na,0,a.svs\nb,1,\n"), cases="slide")


def test_positive_that_is_not_a_label_is_refused(tmp_path: Path):
    path = _write(tmp_path, "slide_id,label\na,benign\nb,malignant\n")
    with pytest.raises(TableError, match=r'labels are benign, malignant, but `positive` .* "tumor"; set it'):
        read_slide_table(path, positive="tumor", cases="slide", paths_required=False)


def test_files_that_are_not_a_table_are_refused(tmp_path: Path):
    with pytest.raises(TableError, match=r"none\.csv: no such file"):
        read_slide_table(tmp_path / "none.csv")
    with pytest.raises(TableError, match=r"cannot be read"):
        read_slide_table(tmp_path)
    with pytest.raises(TableError, match=r"line 2: not UTF-8; save it as CSV UTF-8"):
        read_slide_table(_write(tmp_path, "slide_id,label\nä,0\n", "latin-1"))
    with pytest.raises(TableError, match=r"line 2: not CSV"):
        read_slide_table(_write(tmp_path, "slide_id,label\n" + "a" * 200_000 + ",0\n"))


@pytest.mark.parametrize(
    ("one", "other", "classes"),
    [
        ("LUAD", "NORMAL", ("NORMAL", "LUAD")),
        ("Adenocarcinoma", "Benign", ("Benign", "Adenocarcinoma")),
        ("MSI", "wild-type", ("wild-type", "MSI")),
        ("tumor", "non_tumor", ("non_tumor", "tumor")),
        ("mutated", "not mutated", ("not mutated", "mutated")),
        ("1", "0", ("0", "1")),
        ("TRUE", "FALSE", ("FALSE", "TRUE")),
        ("yes", "No", ("No", "yes")),
        ("dysplasia", "healthy", ("healthy", "dysplasia")),
    ],
)
def test_the_label_next_to_a_word_for_negative_is_positive(
    one: str, other: str, classes: tuple[str, ...], tmp_path: Path
):
    path = _write(tmp_path, f"slide_id,label\na,{one}\nb,{other}\n")
    assert read_slide_table(path, cases="slide", paths_required=False).classes == classes


@pytest.mark.parametrize(
    ("one", "other"), [("LUAD", "LUSC"), ("benign", "normal"), ("1", "2"), ("nodal", "nodular")]
)
def test_where_nothing_says_which_label_is_positive_the_study_must(one: str, other: str, tmp_path: Path):
    path = _write(tmp_path, f"slide_id,label\na,{one}\nb,{other}\n")
    message = f"the labels are {one} and {other}, and nothing says .*: positive: {other}, or positive: {one}"
    with pytest.raises(TableError, match=message):
        read_slide_table(path, cases="slide", paths_required=False)
    assert read_slide_table(path, labels_required=False, cases="slide", paths_required=False).classes == (
        one,
        other,
    )
    assert read_slide_table(path, positive=one, cases="slide", paths_required=False).classes == (other, one)


def test_a_decimal_comma_is_read(tmp_path: Path):
    path = tmp_path / "slides.csv"
    path.write_text("slide_id;case_id;label;path;mpp\na;1;normal;a.png;0,25\nb;2;tumour;b.png;0.5\n")
    assert [row.mpp for row in read_slide_table(path, positive=None).rows] == [0.25, 0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "slide_id,case_id,patient_id,label\na,acc1,p1,0\nb,acc2,p1,1\n",
            r"line 3: patient_id p1 has two cases, acc1 and acc2 \(case_id\); .* training and test",
        ),
        (
            "slide_id,case_id,label\na,Patient 1,0\nb,patient  1,1\n",
            r'the cases "Patient 1" and "patient  1" differ in upper and lower case or spaces only',
        ),
        (
            "slide_id,case_id,label\na,1,Tumour\nb,2,tumour\n",
            r'the labels "Tumour" and "tumour" differ in upper and lower case or spaces only',
        ),
        (
            "slide_id,case_id,label,Label\na,1,0,1\nb,2,1,0\n",
            r"2 columns are named label and Label; expected one",
        ),
        ("slide_id,case_id,label\na,#N/A,0\nb,2,1\n", r"line 2: slide a has no case_id; fill in its patient"),
        ("slide_id,case_id,label\na,1,nan\nb,2,1\n", r"line 2: slide a has no label"),
        (
            "slide_id,case_id,label\na,1.23E+11,0\nb,2,1\n",
            r"line 2: case_id is 1\.23E\+11, a long number that a spreadsheet has shortened; .* as text",
        ),
    ],
)
def test_what_would_mix_cases_or_labels_is_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "slides.csv").write_text(text)
    with pytest.raises(TableError, match=rf"slides\.csv.*{message}"):
        read_slide_table(
            tmp_path / "slides.csv", positive="tumour" if "tumour" in text else None, paths_required=False
        )


def test_a_second_column_of_cases_may_be_finer(tmp_path: Path):
    (tmp_path / "slides.csv").write_text("slide_id,case_id,case,label\na,p1,acc1,0\nb,p1,acc2,1\n")
    table = read_slide_table(tmp_path / "slides.csv", paths_required=False)
    assert [row.case_id for row in table.rows] == ["p1", "p1"]


def test_ids_that_only_look_like_numbers_are_kept(tmp_path: Path):
    (tmp_path / "slides.csv").write_text("slide_id,case_id,label\n0017,1E5,0\n1-2,3/4/21,1\n")
    table = read_slide_table(tmp_path / "slides.csv", paths_required=False)
    assert [(row.slide_id, row.case_id) for row in table.rows] == [("0017", "1E5"), ("1-2", "3/4/21")]


@pytest.mark.parametrize("name", ["a\0b", "é" * 101, "x/" * 2001])
def test_what_cannot_be_the_name_of_a_file_is_refused(tmp_path: Path, name: str):
    path = tmp_path / "slides.csv"
    path.write_text(f"slide_id,case_id,label,path\na,1,0,a.png\nb,2,1,{name}\n", encoding="utf-8")
    with pytest.raises(
        TableError, match=r"line 3: path is .*expected the name of a file, of at most 200 bytes"
    ):
        read_slide_table(path)
