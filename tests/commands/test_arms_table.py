"""What the terminal shows of the tables of an evaluation."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.support.predictions import trial_rows

from hardmil.commands.arms_table import (
    AUTO_COULD_NOT,
    NOT_CENTRED,
    arms_table,
    choice_lines,
    comparison_lines,
    difference_cell,
)
from hardmil.evaluation.evaluation import TrialRows
from hardmil.evaluation.results import ChoiceRow, key_of
from hardmil.metrics import fpr_at_sensitivity
from hardmil.statistics.cautions import FIXED_SENSITIVITY, few_cases_note
from hardmil.statistics.choices import summarise_choices
from hardmil.statistics.claims import claim_words
from hardmil.statistics.comparisons import Comparison
from hardmil.statistics.tables import Statistics, write_statistics


def _statistics(folder: Path, rows: TrialRows | None = None) -> Statistics:
    return write_statistics(folder, rows=rows or trial_rows(), positive="tumour", seed=3)


def test_the_terminal_shows_the_interval_and_the_differences(tmp_path: Path):
    found = _statistics(tmp_path)
    heading, ours, *_ = arms_table(found.summary, intervals=found.intervals)
    assert "FPR@op" in heading
    predictions = [row for row in trial_rows().predictions if key_of(row).arm == "ours"]
    rates = [
        fpr_at_sensitivity(
            np.array([int(row.label == "tumour") for row in predictions if key_of(row).repeat == repeat]),
            np.array([row.bag_score for row in predictions if key_of(row).repeat == repeat]),
            sensitivity=0.9,
        )
        for repeat in range(2)
    ]
    (one,) = [one for one in found.intervals if (one.arm, one.metric) == ("ours", "fpr_at_sens_90")]
    assert one.value == pytest.approx(np.mean(rates))
    limits = f"[{one.low:.3f}, {one.high:.3f}]".replace("0.", ".")
    assert limits in ours
    lines = comparison_lines(found)
    (table,) = [i for i, line in enumerate(lines) if line.startswith("arm minus other")]
    assert [line.split("  ")[0] for line in lines[table + 1 : table + 4]] == [
        "ours+mb minus ours",
        "ours+mb minus ours+mb@random",
        "ours+mb@random minus ours",
    ]
    assert "by more than 0.05 (tested together, Holm-corrected):" in lines[table + 5]
    assert lines[table + 6 :] == [claim_words(one) for one in found.claims]
    assert len(found.claims) == 3
    assert any("@op" in line and "training fold" in line for line in lines[:table])
    assert few_cases_note(12) in lines[:table]
    assert lines[table - 1] == FIXED_SENSITIVITY


def test_with_enough_cases_there_is_no_warning(tmp_path: Path):
    found = _statistics(tmp_path)
    many = replace(found, intervals=[replace(one, n_cases=40) for one in found.intervals])
    assert not any("Only" in line for line in comparison_lines(many))


def test_without_calls_at_the_operating_point_there_is_a_dash(tmp_path: Path):
    found = _statistics(tmp_path, trial_rows(("ours", "abmil"), knows_op=False))
    lines = comparison_lines(found)
    (table,) = [i for i, line in enumerate(lines) if line.startswith("arm minus other")]
    heading, row = lines[table : table + 2]
    assert row[heading.index("FPR@op") : heading.index("FPR@90")].split() == ["-", "-"]
    assert any(line.startswith("@op is -: no threshold was set") for line in lines)
    assert not any("@op is -" in line for line in comparison_lines(_statistics(tmp_path)))


def test_arms_run_on_other_slides_are_named(tmp_path: Path):
    rows = trial_rows(("ours", "abmil"))
    predictions = [row for row in rows.predictions if (key_of(row).arm, key_of(row).repeat) != ("abmil", 1)]
    found = _statistics(tmp_path, TrialRows(rows.results, predictions, []))
    assert comparison_lines(found)[-1].startswith("not compared: abmil and ours")


def test_cells_of_differences():
    one = Comparison("a", "b", "case", "grid", "pooled_auc", -0.0421, -0.11, 0.0204, 0.1, 0.31)
    assert difference_cell(one) == "-.042 [-.110, +.020] p .310"
    flat = Comparison("a", "b", "case", "grid", "pooled_auc", -0.0001, -1.0, 0.0, 1.0, 1.0)
    assert difference_cell(flat) == "+.000 [-1.000, +.000] p 1.000"
    alone = Comparison("a", "b", "case", "grid", "pooled_auc", 0.25, math.nan, math.nan, math.nan, math.nan)
    assert difference_cell(alone) == "+.250"


def test_arms_whose_scores_are_not_centred_come_with_a_word(tmp_path: Path):
    def says_so(*arms: str) -> bool:
        return NOT_CENTRED in comparison_lines(_statistics(tmp_path, trial_rows(arms)))

    assert says_so("ours", "ours-top5+instance")
    assert says_so("auto")
    assert not says_so("ours", "abmil+instance")


def test_what_auto_chose_is_said_or_that_it_could_not(tmp_path: Path):
    found = _statistics(tmp_path, trial_rows(("ours", "auto")))
    assert choice_lines(found) == [AUTO_COULD_NOT]
    key = key_of(trial_rows(("auto",)).predictions[0])
    rows = [
        ChoiceRow(key, "ours", "auc", name, value, 0.9 - value, 0.1)
        for name, value in (("ours", 0.9), ("mean", 0.5))
    ]
    assert choice_lines(replace(found, choices=summarise_choices(rows))) == [
        "auto took, in 1 trial: ours 1 (clearly in 1)"
    ]
    assert choice_lines(_statistics(tmp_path)) == []
