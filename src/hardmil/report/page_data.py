"""What stands on report.html, as values: commands fill them, the templates show them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hardmil.jobs.failures import Failure
from hardmil.metrics import MeanSE
from hardmil.pictures.patch_pictures import GalleryPicture
from hardmil.pictures.slide_pictures import SlidePictures

COLUMNS = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f_score": "F-score",
    "auc": "AUC (fold mean)",
    "fpr": "FPR",
    "fpr_at_sens_90": "FPR at 0.90 sens. (pooled)",
    "fpr_at_sens_95": "FPR at 0.95 sens. (pooled)",
}
"""Keys of an arm's values, and what stands above them."""


@dataclass(frozen=True)
class ColumnGroup:
    """Columns under one heading; `narrow` follows each name where a narrow page has no room for headings."""

    heading: str
    columns: Mapping[str, str]
    narrow: str = ""


CLAIM = ColumnGroup(
    "Threshold set inside the training fold: the claim",
    {"fpr_op": "FPR", "sens_op": "Sensitivity"},
    " (claim)",
)
DESCRIPTIVE = ColumnGroup(
    "Threshold taken from the test scores: descriptive",
    {"fpr_at_sens_90": "FPR at 0.90 sens.", "fpr_at_sens_95": "FPR at 0.95 sens."},
    " (descriptive)",
)
AT_HALF = ColumnGroup(
    "Threshold 0.5",
    {"pooled_fpr": "FPR", "pooled_recall": "Sensitivity", "pooled_accuracy": "Accuracy"},
    " (at 0.5)",
)
WITHOUT_THRESHOLD = ColumnGroup("No threshold", {"pooled_auc": "AUC (pooled)"})
INTERVAL_GROUPS = (CLAIM, DESCRIPTIVE, AT_HALF, WITHOUT_THRESHOLD)
DIFFERENCE_GROUPS = (CLAIM, DESCRIPTIVE, WITHOUT_THRESHOLD)

RATES = {
    "fpr_op": "Threshold set in training: the claim",
    "fpr_at_sens_90": "At sensitivity 0.90: descriptive",
    "fpr_at_sens_95": "At sensitivity 0.95: descriptive",
}
"""The false-positive rates that say whether mining helped, and what stands above them."""

LIMITS = (
    "Research use; not a medical device. No patient may be treated on the strength of this page.",
    "± is the standard error over repeats of the folds: how much the numbers move when the same slides "
    "are split anew, not how much they would move with other patients, scanners or stains.",
    "Differences no larger than their standard errors decide nothing.",
    "Attention says where the model looked, not why, and not whether it was right.",
    "A hard negative is named by a model: its slide is labelled negative, but nobody looked at the patch.",
)


@dataclass(frozen=True)
class ReportArm:
    """One row of the table of arms; `values` by the keys of COLUMNS.

    `mines` says whether the arm mines at all: only then are its counts shown. `hard_minus_random` holds, by
    the same keys, the arm minus its control, paired by repeat.
    """

    name: str
    values: Mapping[str, MeanSE]
    n_trials: int | None = None
    mines: bool = False
    n_false_positive_bags: int = 0
    n_hard: int = 0
    hard_minus_random: Mapping[str, MeanSE] | None = None
    note: str = ""


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% interval; `p`, of a difference, is that of no difference. Undefined is nan."""

    value: float
    low: float
    high: float
    p: float = math.nan


@dataclass(frozen=True)
class EstimateRow:
    """One arm, or one arm minus another; `values` by the keys of the column groups."""

    name: str
    values: Mapping[str, Estimate]
    note: str = ""


@dataclass(frozen=True)
class ReportIntervals:
    """Intervals by case of arms and of their differences; `notes` say what makes them too narrow."""

    n_cases: int
    n_resamples: int
    arms: Sequence[EstimateRow]
    differences: Sequence[EstimateRow] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class RateRow:
    """An arm's false-positive rates, by the keys of RATES, and `sens_op`; `role` says what the arm is."""

    name: str
    role: str
    values: Mapping[str, Estimate]
    base: str = ""


@dataclass(frozen=True)
class ReportRates:
    """False positives of each base beside the arms that mine; `findings` say in sentences what came of it."""

    rows: Sequence[RateRow]
    findings: Sequence[str] = ()
    any_mines: bool = True


@dataclass(frozen=True)
class ReportTable:
    """Arms compared on the same folds of the same bags."""

    title: str
    arms: Sequence[ReportArm]
    intervals: ReportIntervals | None = None
    rates: ReportRates | None = None


@dataclass(frozen=True)
class LabelCount:
    """How much of the study carries a label. A case whose slides differ in label counts under each."""

    label: str
    n_cases: int
    n_slides: int
    n_patches: int


@dataclass(frozen=True)
class Exclusion:
    """A slide of the table that is in no number of the page, and why."""

    slide_id: str
    why: str


@dataclass(frozen=True)
class ReportData:
    """What the study was made of; slides left out are not counted in. The negative label comes first."""

    n_cases: int
    n_slides: int
    positive: str
    negative: str
    labels: Sequence[LabelCount] = ()
    exclusions: Sequence[Exclusion] = ()


@dataclass(frozen=True)
class AttentionPicture:
    """A slide and its attention; the caption also stands in for the picture where it cannot be seen."""

    picture: bytes
    caption: str


@dataclass(frozen=True)
class Drawing:
    """An SVG figure; `alt` says in words what it shows."""

    svg: str
    alt: str
    caption: str


@dataclass(frozen=True)
class CalledSlide:
    """A held-out slide, what it was called, and for a false positive what was mined from it, in words.

    `pictures` are made of slides called wrongly alone; without them, `why_not` says why.
    """

    slide_id: str
    label: str
    called: str
    bag_score: float
    threshold: float
    pictures: SlidePictures | None = None
    why_not: str = ""
    mined: str = ""
    mined_pictures: Sequence[GalleryPicture] = ()


@dataclass(frozen=True)
class Confusion:
    """How one arm called each slide in one repeat; `threshold` says in words where the line was drawn."""

    arm: str
    threshold: str
    n_repeats: int
    slides: Sequence[CalledSlide]

    def cell(self, label: str, called: str) -> list[CalledSlide]:
        """The slides of a label that were called so, the highest score first."""
        here = [one for one in self.slides if (one.label, one.called) == (label, called)]
        return sorted(here, key=lambda one: -one.bag_score)


@dataclass(frozen=True)
class Diagnosis:
    """What is odd about the attention of a slide, what that means, and what to do."""

    slide_id: str
    finding: str
    meaning: str
    remedy: str


@dataclass(frozen=True)
class Report:
    """All that stands on the page. `config` is YAML text; `run` is a run record.

    `failures` are of trials. `n_by_cluster` counts the hard negatives that `hard_negatives` was drawn from;
    -1 is those that were not clustered, and `clusters_of` names the training that the clusters are of.
    """

    title: str
    question: str
    data: ReportData
    tables: Sequence[ReportTable]
    config: str
    run: Mapping[str, object]
    failures: Sequence[Failure] = ()
    curves: Sequence[Drawing] = ()
    calibration: Drawing | None = None
    confusion: Confusion | None = None
    hard_negatives: Sequence[GalleryPicture] = ()
    n_hard_negatives: int | None = None
    n_by_cluster: Mapping[int, int] = field(default_factory=dict)
    clusters_of: str = ""
    attention: Sequence[AttentionPicture] = ()
    diagnoses: Sequence[Diagnosis] = ()
    limits: Sequence[str] = LIMITS
