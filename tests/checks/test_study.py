from hardmil.bags.slide_table import SlideRow
from hardmil.checks.study import patient_failures

FIRST, SECOND, OTHER = "TCGA-A7-A0CE-01Z-00-DX1", "TCGA-A7-A0CE-01Z-00-DX2.12-34", "TCGA-A7-A0CF-01Z-00-DX1"


def test_slides_of_a_tcga_patient_in_two_cases_are_a_leak():
    (failure,) = patient_failures([SlideRow(name, name) for name in (FIRST, SECOND, OTHER)])
    assert failure.name == "cases"
    assert "1 TCGA patient " in failure.message
    assert f"first {FIRST}, {SECOND}; give both case_id TCGA-A7-A0CE" in failure.message


def test_slides_of_a_tcga_patient_in_one_case_are_not():
    assert patient_failures([SlideRow(name, name[:12]) for name in (FIRST, SECOND, OTHER)]) == []
    assert patient_failures([SlideRow("0017", "a"), SlideRow("TCGA-A7", "b")]) == []
