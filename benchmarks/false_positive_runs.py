"""The experiments behind docs/false-positives.md: which arms run on which sets, and how rows are kept.

Used by benchmarks/false_positives.py. The protocol is docs/decisions/0013-false-positive-protocol.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reproduction_runs import FOLDERS, LITE0, collect

from hardmil.bags.slide_table import read_slide_table
from hardmil.commands.reproduce import reproduce
from hardmil.config.study_file import FILE_NAME
from hardmil.evaluation.results import CHOICES, ChoiceRow
from hardmil.files.csv_table import read_table, write_table
from hardmil.jobs.pool import Engine
from hardmil.paper.reproduction import Reproduction
from hardmil.preprocessing.process_slides import RunOptions
from hardmil.preprocessing.study_encoding import encode_study
from hardmil.preprocessing.study_folder import open_study
from hardmil.report.evaluation_run import evaluate

KEPT = Path(__file__).parents[1] / "docs" / "false-positives"
SETS = ("colon", "ucsb", "glas")
REPEATS = 2
CANDIDATES = (
    *("ours", "ours-top5", "ours-mean"),
    *("abmil", "abmil-top5", "abmil-mean"),
    *("ours+instance", "ours-top5+instance", "ours-mean+instance"),
)
AUTO = "auto"
NEW = (
    *("topk", "conjunctive", "linear", "ours-smooth", "ours-masktop", "ours-seeds5", "em"),
    *("ours+rank", "ours+pseudo", "ours+pseudo@random"),
    *("topk+instance", "conjunctive+instance", "linear+instance", "ours-smooth+instance"),
    *("ours-masktop+instance", "ours-seeds5+instance", "em+instance", "ours+instance+rank"),
    *("ours+instance+pseudo", "ours+instance+pseudo@random"),
)
# How `auto` may choose, last the default.
CRITERIA = {
    "auc": ("auto.standard_errors=0",),
    "partial-auc": ("auto.criterion=partial-auc", "auto.standard_errors=0"),
    "partial-auc-1se": ("auto.criterion=partial-auc",),
    "fpr": ("auto.criterion=fpr", "auto.standard_errors=0"),
    "auc-1se": (),
}
GLAS_STUDY = f"""\
positive: malignant
encode: {LITE0}
encode_px: 224
patches: {{size_px: 112, overlap_px: 28, um_per_px: 0.62, tissue_rule: s-or-v, tissue: {{drop_pen: false}}}}
evaluation: {{folds: 5}}
"""


@dataclass(frozen=True)
class Where:
    """Where data and working folders are, and how trials run."""

    data: Path
    output: Path
    engine: Engine
    repeats: int = REPEATS


def run_set(name: str, *, arms: Sequence[str], where: Where, overrides: Sequence[str] = ()) -> Path:
    """Run the missing trials of these arms on a set; the folder of the tables."""
    if name == "glas":
        return _run_glas(arms, where=where, overrides=overrides)
    outcome = reproduce(
        name,
        data=where.data / FOLDERS[name],
        output=where.output / name,
        protocol=Reproduction(repeats=where.repeats, arms=tuple(arms), split="group", encoder=LITE0),
        overrides=overrides,
        engine=where.engine,
    )
    print("\n".join(outcome.lines), flush=True)
    return where.output / name


def _run_glas(arms: Sequence[str], *, where: Where, overrides: Sequence[str]) -> Path:
    """GlaS as a user's own study: a table and a study.yaml."""
    folder, source = where.output / "glas", where.data / "glas"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_text(GLAS_STUDY, encoding="utf-8")
    rows = read_slide_table(source / "slides.csv", positive="malignant").rows
    lines = [f"{row.slide_id},{row.case_id},{row.label},{row.path},{row.mpp}" for row in rows]
    text = "\n".join(["slide_id,case_id,label,path,mpp", *lines, ""])
    (folder / "slides.csv").write_text(text, encoding="utf-8")
    repeats = f"evaluation.repeats={where.repeats}"
    return evaluate_study(folder, arms=arms, where=where, overrides=[repeats, *overrides])


def evaluate_study(folder: Path, *, arms: Sequence[str], where: Where, overrides: Sequence[str]) -> Path:
    """Encode the slides of a study and run the missing trials of these arms; the folder of the tables."""
    study = open_study(folder, overrides=[f"evaluation.arms=[{', '.join(arms)}]", *overrides])
    encode_study(study, options=RunOptions(quiet=True))
    return evaluate(study, engine=where.engine).folder


def keep(folder: Path, *, to: Path, only: str | None = None) -> None:
    """Add the rows of a folder to kept rows; only those of one arm, if it is named."""
    collect(folder, to=to, only=only)
    choices = read_table(folder / CHOICES, ChoiceRow)
    known = {row.trial for row in choices}
    old = [row for row in read_table(to / CHOICES, ChoiceRow) if row.trial not in known]
    if choices:
        write_table(to / CHOICES, [*old, *choices], row=ChoiceRow)
