from pathlib import Path

import h5py
import numpy as np
from tests.support.studies import Hardmil

from hardmil.bags.slide_table import SlideRow
from hardmil.checks.study import StudyCheck, check_study, patient_failures
from hardmil.preprocessing.study_folder import open_study

FIRST, SECOND, OTHER = "TCGA-A7-A0CE-01Z-00-DX1", "TCGA-A7-A0CE-01Z-00-DX2.12-34", "TCGA-A7-A0CF-01Z-00-DX1"


def test_slides_of_a_tcga_patient_in_two_cases_are_a_leak():
    (failure,) = patient_failures([SlideRow(name, name) for name in (FIRST, SECOND, OTHER)])
    assert failure.name == "cases"
    assert "1 TCGA patient " in failure.message
    assert f"first {FIRST}, {SECOND}; give both case_id TCGA-A7-A0CE" in failure.message


def test_slides_of_a_tcga_patient_in_one_case_are_not():
    assert patient_failures([SlideRow(name, name[:12]) for name in (FIRST, SECOND, OTHER)]) == []
    assert patient_failures([SlideRow("0017", "a"), SlideRow("TCGA-A7", "b")]) == []


def _checked(study: Path) -> StudyCheck:
    return check_study(open_study(study), quiet=True)


def test_missing_and_damaged_feature_files_are_named(feature_study: Path):
    (feature_study / "feats" / "s3.h5").unlink()
    (feature_study / "feats" / "s5.h5").write_bytes(b"not HDF5")
    failures = {one.name: one.message for one in _checked(feature_study).failures}
    assert set(failures) == {"s3", "s5"}
    assert "no feature file" in failures["s3"]


def test_one_feature_file_under_two_names_is_named(feature_study: Path):
    feats = feature_study / "feats"
    (feats / "s5.h5").write_bytes((feats / "s3.h5").read_bytes())
    found = _checked(feature_study)
    failures = {one.name: one.message for one in found.failures}
    assert set(failures) == {"s5", "cases"}
    assert "identical to those of s3" in failures["s5"]
    assert failures["cases"].startswith("1 pair ")
    assert found.groups == [["c3", "c5"]]


def test_features_that_were_written_again_in_another_order_are_a_leak(feature_study: Path):
    feats = feature_study / "feats"
    with h5py.File(feats / "s3.h5") as old, h5py.File(feats / "s5.h5", "w") as new:
        order = np.random.default_rng(1).permutation(len(old["features"]))[:-2]
        new["features"] = old["features"][()][order].astype(np.float16)
        new["coords"] = old["coords"][()][order]
    found = _checked(feature_study)
    ((pair),) = found.pairs
    assert (pair.kind, pair.slide_a, pair.slide_b, pair.b_is) == (
        "same patches",
        "s3",
        "s5",
        "nearly identical",
    )
    assert pair.is_leak
    assert [one.name for one in found.failures] == ["cases"]


def test_bags_that_encode_wrote_are_compared(study: Path, hardmil: Hardmil):
    assert hardmil("encode", study).code == 0
    bags = open_study(study)
    first, other = bags.bag_path("000 a"), bags.bag_path("004 a")
    other.write_bytes(first.read_bytes())
    found = _checked(study)
    assert [(pair.slide_a, pair.slide_b, pair.b_is) for pair in found.pairs] == [
        ("000 a", "004 a", "identical")
    ]
    other.write_bytes(b"not HDF5")
    assert _checked(study).failures == [], "encode makes it again"
