"""The table of arms, for the terminal and for scripts."""

import math
from collections.abc import Mapping, Sequence

from hardmil.evaluation.arm_name import parse_arm_name
from hardmil.evaluation.arms import AUTO
from hardmil.metrics import MeanSE
from hardmil.paper.tables import Published
from hardmil.statistics.cautions import FIXED_SENSITIVITY, few_cases_notes
from hardmil.statistics.choices import choice_words
from hardmil.statistics.claims import claim_words
from hardmil.statistics.comparisons import Comparison, by_pair
from hardmil.statistics.intervals import Interval
from hardmil.statistics.summary import ArmSummary
from hardmil.statistics.tables import Statistics

SHOWN = {
    "pooled_auc": "AUC (pooled)",
    "fpr_op": "FPR@op",
    "sens_op": "Sens@op",
    "fpr_at_sens_90": "FPR@90",
    "fpr_at_sens_95": "FPR@95",
}

READING = (
    "accuracy, precision, recall, F-score, AUC and FPR are means over folds; all others, intervals and "
    "differences are pooled over a repeat",
    "@op: at the threshold set inside the training fold, the main result; @90, @95: at a threshold taken "
    "from the test scores, descriptive",
)

AUTO_COULD_NOT = "auto took its first candidate: a class has too few cases to compare candidates out of fold"

NOT_CENTRED = (
    "accuracy, precision, recall, F-score and FPR call a slide positive above 0.5, which means little for "
    "auto, em and arms with -top5 or -mean: read @op instead"
)

NO_OPERATING_POINT = (
    "@op is -: no threshold was set, because evaluation.operating_folds is 0 or a class has too few cases"
)

HEADINGS = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f_score": "F-score",
    "auc": "AUC",
    "fpr": "FPR",
    "fpr_op": "FPR@op",
    "sens_op": "Sens@op",
    "fpr_at_sens_90": "FPR@90",
    "fpr_at_sens_95": "FPR@95",
}
WITH_INTERVAL = "fpr_at_sens_90"
PAPER_WORD = "  paper"


def arms_table(
    summary: Sequence[ArmSummary],
    *,
    intervals: Sequence[Interval] = (),
    paper: Mapping[str, Mapping[str, Published]] | None = None,
) -> list[str]:
    """One line for each arm, with that of the paper below it; the column trials counts the trials of an arm.

    FPR@90 is followed by its 95% interval by case, if it is among `intervals`.
    """
    limits = {
        (one.arm, one.split, one.patches): f" [{short(one.low)}, {short(one.high)}]"
        for one in intervals
        if one.metric == WITH_INTERVAL and not math.isnan(one.low)
    }
    rows = [["arm", *HEADINGS.values(), "trials", "mined"]]
    for one in summary:
        cells = {name: cell(one.values[name]) for name in HEADINGS}
        cells[WITH_INTERVAL] += limits.get((one.arm, one.split, one.patches), "")
        rows.append([one.arm, *cells.values(), str(one.n_trials), mined_cell(one)])
        if paper is not None:
            published = paper.get(one.arm, {})
            rows.append([PAPER_WORD, *(_published(published.get(name)) for name in HEADINGS), "", ""])
    return align(rows)


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """One line for each row, with aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def cell(value: MeanSE) -> str:
    """`.906 ±.007`; without ± for a single repeat; `-` if undefined."""
    if math.isnan(value.mean):
        return "-"
    spread = "" if math.isnan(value.se) else f" ±{short(value.se)}"
    return f"{short(value.mean)}{spread}"


def short(value: float) -> str:
    """.906 rather than 0.906, as the paper prints."""
    text = f"{value:.3f}"
    return text.removeprefix("0") if text.startswith("0") else text


def mined_cell(one: ArmSummary) -> str:
    """How many instances from how many false-positive bags, over all trials."""
    if not one.mines:
        return ""
    return f"{one.n_hard} from {one.n_false_positive_bags} bags" if one.n_hard else "nothing: equals its base"


def arms_values(summary: Sequence[ArmSummary]) -> list[dict[str, object]]:
    """The table of arms for --json."""
    return [
        {
            "arm": one.arm,
            "n_trials": one.n_trials,
            "n_hard": one.n_hard,
            "n_false_positive_bags": one.n_false_positive_bags,
            **{name: None if math.isnan(v.mean) else v.mean for name, v in one.values.items()},
        }
        for one in summary
    ]


def _published(value: Published | None) -> str:
    if value is None:
        return "-"
    return f"{short(value.mean)} ±{short(value.se)}" if value.se is not None else short(value.mean)


def choice_lines(statistics: Statistics) -> list[str]:
    """What `auto` chose, if it was among the arms."""
    if statistics.choices:
        return [choice_words(statistics.choices)]
    return [AUTO_COULD_NOT] if any(one.arm == AUTO for one in statistics.summary) else []


def comparison_lines(found: Statistics) -> list[str]:
    """How to read the table of arms, warnings, then one line for each pair: difference, interval and p."""
    pairs = by_pair(found.comparisons)
    lines: list[str] = list(READING)
    if any(not parse_arm_name(one.arm).is_centred for one in found.summary):
        lines.append(NOT_CENTRED)
    if found.summary and all(math.isnan(one.values["fpr_op"].mean) for one in found.summary):
        lines.append(NO_OPERATING_POINT)
    lines += few_cases_notes(found.intervals)
    if pairs:
        table = [["arm minus other", *SHOWN.values()]]
        for (arm, other, *_), by_metric in pairs.items():
            table.append([f"{arm} minus {other}", *(difference_cell(by_metric[name]) for name in SHOWN)])
        heading = "differences by case, with 95% interval and two-sided p (Holm-corrected):"
        lines += ["", heading, FIXED_SENSITIVITY, *align(table)]
    lines += claim_lines(found)
    lines += [
        f"not compared: {arm} and {other} were not run on the same slides and repeats"
        for arm, other in found.not_compared
    ]
    return lines


def claim_lines(found: Statistics) -> list[str]:
    """Which arm has fewer false positives at no loss of sensitivity, one line for each pair."""
    if not found.claims:
        return []
    margin = found.claims[0].margin
    heading = (
        "fewer or more false positives, with a sensitivity that is not lower or higher by more than "
        f"{margin:g} (tested together, Holm-corrected):"
    )
    return ["", heading, *map(claim_words, found.claims)]


def difference_cell(one: Comparison) -> str:
    """`-.042 [-.110, +.020] p .310`; `-` if undefined."""
    if math.isnan(one.difference):
        return "-"
    if math.isnan(one.low):
        return _signed(one.difference)
    return f"{_signed(one.difference)} [{_signed(one.low)}, {_signed(one.high)}] p {short(one.p_holm)}"


def _signed(value: float) -> str:
    return f"{'-' if round(value, 3) < 0 else '+'}{short(abs(value))}"
