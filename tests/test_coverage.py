"""The simulation behind docs/decisions/0011, its kept rows, and the warnings in the generated pages."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hardmil.files.csv_table import read_table
from hardmil.statistics.cautions import FIXED_SENSITIVITY, few_cases_note
from hardmil.statistics.weighted_metrics import RESAMPLED

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def coverage() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_benchmark", ROOT / "benchmarks" / "coverage.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["coverage_benchmark"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_setting_has_a_row_for_each_method_and_metric(
    coverage: ModuleType, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(coverage, "N_RESAMPLES", 60)
    monkeypatch.setattr(coverage, "N_NESTED", 20)
    rows = coverage.run(coverage.Setting(10, 2, 2.0), n_studies=2)
    methods = [coverage.LIBRARY, *coverage.METHODS]
    assert {(row.kind, row.method, row.metric) for row in rows} == {
        (kind, method, metric) for kind in ("arm", "difference") for method in methods for metric in RESAMPLED
    }
    assert all(row.covered in (0, 0.5, 1) for row in rows)
    truth = {row.metric: row.truth for row in rows if row.kind == "arm"}
    assert truth["pooled_auc"] == pytest.approx(0.897, abs=0.005)  # Phi(2 / sqrt(2 * 1.25))
    assert truth["fpr_at_sens_90"] > truth["pooled_fpr"] > 0
    assert len(coverage.tables(rows)) == 5 * (2 + 2 + len(methods) + 1)


def test_without_each_case_the_standard_error_is_that_of_a_mean(coverage: ModuleType):
    """Accuracy of one slide a case is a mean, and the jackknife of a mean is its usual standard error."""
    rng = np.random.default_rng(0)
    arms = list(coverage.simulate(coverage.Setting(20, 1, 2.0), rng).values())
    found = coverage.standard_errors(arms, np.ones((1, 20), dtype=np.int64))
    right = np.mean([(one.scores > 0.5) == (one.labels == 1) for one in arms[0]], axis=0)
    accuracy = RESAMPLED.index("pooled_accuracy")
    assert found[0, accuracy, 0] == pytest.approx(np.std(right, ddof=1) / np.sqrt(20))


def test_methods_agree_where_they_should(coverage: ModuleType):
    values = np.random.default_rng(0).normal(size=400)
    drawn = np.linspace(-1, 1, 2001) * 3 * np.std(values) / 20
    studentised = np.linspace(-1, 1, 2001) * 2
    sample = coverage.Sample(0.0, drawn, -(values - values.mean()) / 399, studentised)
    low, high = coverage.percentile(sample)
    assert (low, high) == pytest.approx((np.quantile(drawn, 0.025), np.quantile(drawn, 0.975)))
    assert coverage.widened(sample) == pytest.approx((low, high), rel=0.02)
    assert coverage.bca(sample) == pytest.approx((low, high), rel=0.05)
    half = 1.9 * np.std(values, ddof=1) / 20
    assert coverage.bootstrap_t(sample) == pytest.approx((-half, half), rel=0.01)


def test_the_kept_rows_cover(coverage: ModuleType):
    rows = read_table(coverage.ROWS, coverage.CoverageRow)
    here = [row for row in rows if row.method == coverage.LIBRARY]
    assert {coverage.setting_of(row) for row in here} == set(coverage.SETTINGS)
    assert min(row.covered for row in here if row.kind == "arm") > 0.86
    assert min(row.covered for row in here if row.kind == "difference") > 0.9
    assert (
        max(row.rejected for row in here if row.metric.startswith("fpr_at") and row.kind == "difference")
        < 0.025
    )
    by_percentile = [row.covered for row in rows if row.method == "percentile" and row.kind == "arm"]
    assert min(by_percentile) < 0.7


@pytest.mark.parametrize("page", ["reproduction/colon.md", "reproduction/ucsb.md", "rare-foci.md"])
def test_pages_with_p_at_a_fixed_sensitivity_say_what_it_means(page: str):
    text = " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())
    assert FIXED_SENSITIVITY in text


def test_the_page_of_a_set_with_few_cases_warns():
    text = (ROOT / "docs" / "reproduction" / "ucsb.md").read_text(encoding="utf-8")
    sections = [part for part in text.split("### ") if part.startswith("ucsb, split by group")]
    assert len(sections) == 3
    assert all(few_cases_note(10) in section for section in sections)
