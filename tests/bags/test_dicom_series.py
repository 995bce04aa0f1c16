from pathlib import Path

import pytest
from pydicom.uid import JPEGBaseline8Bit
from tests.support.dicom import write_dicom

from hardmil.bags.dicom_series import check_one_row_a_series
from hardmil.bags.slide_table import read_slide_table
from hardmil.bundles.prediction_request import rows_of_slides
from hardmil.errors import TableError

ONE_SERIES = r"fine\.dcm and coarse\.dcm in .*slide are instances of one DICOM series .*give one of them"


def test_instances_of_one_series_are_not_several_slides(tmp_path: Path):
    folder = write_dicom(tmp_path / "slide", syntax=JPEGBaseline8Bit)
    table = tmp_path / "slides.csv"
    rows = [f"{name},{name},{label},slide/{name}.dcm" for name, label in (("fine", "no"), ("coarse", "yes"))]
    table.write_text("\n".join(["slide_id,case_id,label,path", *rows]) + "\n")
    with pytest.raises(TableError, match=r"slides\.csv: " + ONE_SERIES):
        read_slide_table(table)
    with pytest.raises(TableError, match="the slides to predict: " + ONE_SERIES):
        rows_of_slides([folder / "fine.dcm", folder / "coarse.dcm"], are_ids=False)


def test_slides_of_different_series_and_missing_files_pass(tmp_path: Path):
    paths = [write_dicom(tmp_path / name, syntax=JPEGBaseline8Bit) / "fine.dcm" for name in ("a", "b")]
    moved = paths[1].rename(paths[0].with_name("other.dcm"))
    check_one_row_a_series([paths[0], moved, paths[0].with_name("missing.dcm"), None], where="a table")


def test_ids_of_predicted_slides_keep_the_dots_of_a_uid():
    rows = rows_of_slides([Path("scans/2.25.1001"), Path("scans/0017.svs")], are_ids=False)
    assert [row.slide_id for row in rows] == ["2.25.1001", "0017"]
