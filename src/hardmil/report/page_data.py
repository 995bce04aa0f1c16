"""The content of report.html as values, which the templates show."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hardmil.jobs.failures import Failure
from hardmil.metrics import MeanSE
from hardmil.pictures.patch_pictures import GalleryPicture
from hardmil.pictures.slide_pictures import SlidePictures
from hardmil.statistics.choices import ChoiceSummary

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
"""Keys of the values of an arm, and their headings."""


@dataclass(frozen=True)
class ColumnGroup:
    """Columns under one heading; on a narrow page without headings, `narrow` follows each name."""

    heading: str
    columns: Mapping[str, str]
    narrow: str = ""


CLAIM = ColumnGroup(
    "Threshold set inside the training fold: the main result",
    {"fpr_op": "FPR", "sens_op": "Sensitivity"},
    " (main result)",
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
PREDICTED_CLASS = ColumnGroup(
    "Predicted class",
    {"pooled_accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy", "kappa": "Kappa (quadratic)"},
)
CALLED_CLASS = ColumnGroup(
    "Predicted class", {"pooled_fpr": "FPR", "pooled_recall": "Sensitivity"}, " (predicted class)"
)
INTERVAL_GROUPS = (CLAIM, DESCRIPTIVE, AT_HALF, WITHOUT_THRESHOLD)
MEAN_GROUPS = (CLAIM, DESCRIPTIVE, PREDICTED_CLASS, WITHOUT_THRESHOLD)
"""Means over more than two classes; kappa only of ordered classes."""
CLASS_GROUPS = (CLAIM, CALLED_CLASS, WITHOUT_THRESHOLD)
"""One of more than two classes against the rest."""
DIFFERENCE_GROUPS = (CLAIM, DESCRIPTIVE, WITHOUT_THRESHOLD)

RATES = {
    "fpr_op": "Threshold set in training: the main result",
    "fpr_at_sens_90": "At sensitivity 0.90: descriptive",
    "fpr_at_sens_95": "At sensitivity 0.95: descriptive",
}
"""The false-positive rates that show whether mining helped, and their headings."""

STANDARD_ERRORS = (
    "± is the standard error over repeats of the folds: how much the numbers change when the same slides "
    "are split again, not how much they would change with other patients, scanners or stains.",
    "Differences that are not larger than their standard errors prove nothing.",
)
"""Limits of a page with standard errors."""

LIMITS = (
    "Research use; not a medical device. Do not treat any patient on the basis of this page.",
    "Attention shows where the model looked, not why, and not whether it was right.",
    "A hard negative is selected by a model: its slide is labelled negative, but nobody looked at the patch.",
)


@dataclass(frozen=True)
class ReportArm:
    """One row of the table of arms; `values` by the keys of COLUMNS.

    `mines` is whether the arm mines; only then are its counts shown. `hard_minus_random` has, by the same
    keys, the arm minus its control, paired by repeat.
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
    """A number and its 95% interval; for a difference, `p` tests no difference. Undefined is NaN."""

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
    """Intervals by case of arms and of their differences.

    `notes` say why they are too narrow or rough, `p_note` how to read p.
    """

    n_cases: int
    n_resamples: int
    arms: Sequence[EstimateRow]
    differences: Sequence[EstimateRow] = ()
    notes: Sequence[str] = ()
    p_note: str = ""


@dataclass(frozen=True)
class RateRow:
    """False-positive rates of an arm, by the keys of RATES, and `sens_op`; `role` says what the arm is."""

    name: str
    role: str
    values: Mapping[str, Estimate]
    base: str


@dataclass(frozen=True)
class ReportRates:
    """False positives of each base and of the arms that mine.

    `findings` are sentences about them; `p_note` says how to read p in these.
    """

    rows: Sequence[RateRow]
    findings: Sequence[str] = ()
    any_mines: bool = True
    p_note: str = ""


@dataclass(frozen=True)
class ReportTable:
    """Arms compared on the same folds of the same bags; `is_repeated` is whether folds were drawn again."""

    title: str
    arms: Sequence[ReportArm]
    intervals: ReportIntervals | None = None
    rates: ReportRates | None = None
    is_repeated: bool = True


@dataclass(frozen=True)
class ReportClasses:
    """The numbers of each class against the rest, with intervals by case; `note` of a row is its arm.

    `findings` are sentences about differences between arms in a class; `notes` are warnings.
    """

    title: str
    rows: Sequence[EstimateRow]
    findings: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class LabelCount:
    """Counts of one label. A case with slides of both labels counts under each."""

    label: str
    n_cases: int
    n_slides: int
    n_patches: int


@dataclass(frozen=True)
class Exclusion:
    """A slide that no number on the page includes, and why."""

    slide_id: str
    why: str


@dataclass(frozen=True)
class ReportData:
    """The data of the study, without excluded slides. The negative label comes first.

    With more than two classes, `classes` are their names, and `positive` and `negative` are empty;
    `is_ordered` is whether each is higher than the one before, `is_multi_label` whether a slide may have
    several.

    `n_held_out` slides were scored while they were held out; None if the page has no such scores. `notes` say
    what is wrong with the slides.
    """

    n_cases: int
    n_slides: int
    positive: str
    negative: str
    labels: Sequence[LabelCount] = ()
    n_held_out: int | None = None
    exclusions: Sequence[Exclusion] = ()
    notes: Sequence[str] = ()
    classes: Sequence[str] = ()
    is_ordered: bool = False
    is_multi_label: bool = False


@dataclass(frozen=True)
class AttentionPicture:
    """A slide and its attention; the caption is also the text alternative of the picture."""

    picture: bytes
    caption: str


@dataclass(frozen=True)
class Drawing:
    """An SVG figure; `alt` is its text alternative."""

    svg: str
    alt: str
    caption: str


@dataclass(frozen=True)
class CalledSlide:
    """A held-out slide and its call; for a false positive, also what was mined from it, in words.

    Only wrongly called slides have `pictures`; if they are missing, `why_not` says why. With more than two
    classes there is no threshold, and `scored` says how its own and the called class scored. `false_for` are
    the classes that mining would have found it for. In a multi-label study, `classes` are those it has and
    `called_classes` those it is called, and `error` is how far the worst of its wrong scores is from 0.5.
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
    scored: str = ""
    false_for: Sequence[str] = ()
    classes: Sequence[str] = ()
    called_classes: Sequence[str] = ()
    error: float = 0.0


@dataclass(frozen=True)
class Confusion:
    """How one arm called each slide in one repeat; `threshold` describes the threshold in words."""

    arm: str
    threshold: str
    n_repeats: int
    slides: Sequence[CalledSlide]

    def cell(self, label: str, called: str) -> list[CalledSlide]:
        """The slides with this label and this call, highest score first."""
        here = [one for one in self.slides if (one.label, one.called) == (label, called)]
        return sorted(here, key=lambda one: -one.bag_score)

    def of_class(self, name: str, *, has: bool, called: bool) -> list[CalledSlide]:
        """The slides of a multi-label study that have this class or not, and are called it or not."""
        return [
            one
            for one in self.slides
            if ((name in one.classes), (name in one.called_classes)) == (has, called)
        ]

    @property
    def wrong(self) -> list[CalledSlide]:
        """The slides that are not called by their label, largest error first."""
        return sorted((one for one in self.slides if one.label != one.called), key=lambda one: -one.error)


@dataclass(frozen=True)
class SlideDiagnosis:
    """A problem with the attention on a slide, what it means, and what to do; a row of diagnostics.csv."""

    slide_id: str
    finding: str
    meaning: str
    remedy: str


@dataclass(frozen=True)
class Report:
    """The content of the page. `config` is YAML text; `run` is a run record; `about` is that of the study.

    `failures` are of trials. `n_by_cluster` counts the candidates for `hard_negatives` in each cluster of
    each class they are hard for, which is empty with two classes; -1 is for those without a cluster.
    `clusters_of` is the training that the clusters are from. `choice_seconds` is the time of the trials of
    `auto`.
    """

    title: str
    question: str
    data: ReportData
    tables: Sequence[ReportTable]
    config: str
    run: Mapping[str, object]
    failures: Sequence[Failure] = ()
    classes: Sequence[ReportClasses] = ()
    choices: ChoiceSummary | None = None
    choice_seconds: float = 0.0
    curves: Sequence[Drawing] = ()
    calibration: Drawing | None = None
    confusion: Confusion | None = None
    hard_negatives: Sequence[GalleryPicture] = ()
    n_hard_negatives: int | None = None
    n_by_cluster: Mapping[tuple[str, int], int] = field(default_factory=dict)
    clusters_of: str = ""
    attention: Sequence[AttentionPicture] = ()
    diagnoses: Sequence[SlideDiagnosis] = ()
    about: str = ""
    limits: Sequence[str] = LIMITS
