"""Mining where lesions are rare and small: bags of 1,000 patches, one in fifty of them in a lesion.

    python benchmarks/rare_foci.py --output DIR --check   # the base arm alone, on a separate seed
    python benchmarks/rare_foci.py --output DIR           # every arm; resumes after the last complete seed
    python benchmarks/rare_foci.py --table                # print the tables of the rows in docs/rare-foci/

Each seed is a separate cohort; every arm runs on the same folds of it. After each seed, a row per arm is
added to `docs/rare-foci/results.csv`, and a row per arm and slide to `predictions.csv`.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.commands.arms_table import difference_cell
from hardmil.commands.demo import NO_CLEANING
from hardmil.config.evaluation import EvaluationConfig
from hardmil.config.model import TrainingConfig
from hardmil.config.patches import PatchConfig
from hardmil.config.study import StudyConfig
from hardmil.config.study_file import FILE_NAME, commented_yaml
from hardmil.evaluation.cohort import Cohort, study_cohort
from hardmil.evaluation.results import PredictionRow, ResultRow, TrialKey, key_of
from hardmil.evaluation.truth import LESION, LOOK_ALIKE
from hardmil.files.csv_table import read_table, write_table
from hardmil.metrics import MeanSE, mean_and_se
from hardmil.phantom.cohort import write_cohort
from hardmil.phantom.slide import Foci
from hardmil.preprocessing.process_slides import RunOptions
from hardmil.preprocessing.study_encoding import encode_study
from hardmil.preprocessing.study_folder import open_study, read_bags
from hardmil.report.evaluation_run import evaluate
from hardmil.statistics.cautions import FIXED_SENSITIVITY
from hardmil.statistics.comparisons import Comparison, compare, holm_corrected
from hardmil.statistics.intervals import resample_arms
from hardmil.statistics.pooled_predictions import pool_predictions
from hardmil.statistics.summary import SummaryRow

BASE, INSTANCE = "ours", "ours+instance"
ARMS = (
    BASE, "abmil", INSTANCE,
    "ours+fmb-oof", "ours+fmb-oof@random", "ours+fmb-oof-continue", "ours+fmb-oof-continue@random",
    "ours+inject-positive-oof", "ours+inject-positive-oof@random",
    "ours+inject-oof", "ours+inject-oof@random",
    "ours+weigh-oof", "ours+weigh-oof@random", "ours+instance-hardest",
    "ours+instance+verdicts-10-random", "ours+instance+verdicts-10-attention",
)  # fmt: skip
SEEDS = range(8)
CHECK_SEEDS = (100,)
N_SLIDES = 100
SIZE_PX = (2150, 1540)
FOCI = Foci(n=(3, 5), radius_px=(42.0, 62.0))
POSITIVE = "positive"
KEPT = Path(__file__).parents[1] / "docs" / "rare-foci"
RESULTS, PREDICTIONS = KEPT / "results.csv", KEPT / "predictions.csv"
# Name here: name in summary.csv. All from predictions pooled over the folds of a cohort.
NUMBERS = {
    "auc": "pooled_auc",
    "recall": "pooled_recall",
    "fpr": "pooled_fpr",
    "fpr_at_sens_90": "fpr_at_sens_90",
    "fpr_at_sens_95": "fpr_at_sens_95",
    "instance_auc": "instance_auc",
}
HEADS = ("AUC", "sensitivity at 0.5", "FPR at 0.5", "FPR at 0.90 sens.", "FPR at 0.95 sens.", "instance AUC")


@dataclass(frozen=True)
class CohortFacts:
    """Patches per slide; share in lesions (positive slides) and in look-alikes (negative ones that have any).

    Also the share of look-alikes among all patches of negative slides, as random mining would find.
    """

    patches_a_slide: float
    lesion_share: float
    look_alike_share: float
    chance_look_alikes: float


@dataclass(frozen=True)
class SeedRow:
    """An arm on one cohort: a row of docs/rare-foci/results.csv."""

    seed: int
    arm: str
    auc: float
    recall: float
    fpr: float
    fpr_at_sens_90: float
    fpr_at_sens_95: float
    instance_auc: float
    n_false_positive_bags: int
    n_hard: int
    mined_look_alikes: float
    fpr_with_look_alikes: float
    fpr_without_look_alikes: float
    facts: CohortFacts
    seconds: float


@dataclass(frozen=True)
class ScoreRow:
    """An arm's score of one slide: a row of docs/rare-foci/predictions.csv."""

    seed: int
    arm: str
    fold: int
    slide_id: str
    label: str
    bag_score: float


def rare_config(seed: int) -> StudyConfig:
    """Patches of 32 um that overlap by a quarter of their edge, and a frozen encoder.

    A training step uses 128 patches of a bag: with whole bags, the network memorises 60 slides. Prediction
    uses all patches.
    """
    return StudyConfig(
        seed=seed,
        positive=POSITIVE,
        encode="efficientnet-lite0",
        encode_px=40,
        patches=PatchConfig(
            size_px=40,
            overlap_px=10,
            um_per_px=0.8,
            equalise="none",
            tissue_rule="s-or-v",
            tissue=NO_CLEANING,
        ),
        training=TrainingConfig(epochs=30, lr=3e-3, max_instances=128),
        evaluation=EvaluationConfig(arms=ARMS, folds=3, operating_folds=0),
    )


def write_rare_foci(folder: Path, *, seed: int) -> None:
    """Draw the slides of a cohort unless they exist, and write study.yaml."""
    if not (folder / "slides.csv").exists():
        write_cohort(folder, n_train=N_SLIDES, n_test=0, seed=seed, size_px=SIZE_PX, foci=FOCI)
    (folder / FILE_NAME).write_text(commented_yaml(rare_config(seed)), encoding="utf-8")


def run_seed(folder: Path, *, seed: int, arms: Sequence[str]) -> None:
    """Generate one cohort, extract and encode its patches, and evaluate the arms."""
    write_rare_foci(folder, seed=seed)
    study = open_study(folder, overrides=[f"evaluation.arms=[{', '.join(arms)}]"])
    encode_study(study, options=RunOptions(quiet=True))
    evaluate(study, quiet=True)


def rows_of(folder: Path, *, seed: int) -> list[SeedRow]:
    """A row per arm of the cohort."""
    study = open_study(folder)
    cohort = study_cohort(study, bags=read_bags(study, quiet=True).bags)
    facts = cohort_facts(cohort)
    runs = folder / "runs" / "main"
    trials = read_table(runs / "results.csv", ResultRow)
    predictions = read_table(runs / "predictions.csv", PredictionRow)
    rows: list[SeedRow] = []
    for row in read_table(runs / "summary.csv", SummaryRow):
        mine = [trial for trial in trials if trial.trial.arm == row.arm]
        calls = [one for one in predictions if (key_of(one).arm, one.label) == (row.arm, "negative")]
        rows.append(
            SeedRow(
                seed=seed,
                arm=row.arm,
                **{name: row.values[theirs] for name, theirs in NUMBERS.items() if name != "instance_auc"},
                instance_auc=_mean(mine, "instance_auc"),
                n_false_positive_bags=row.n_false_positive_bags,
                n_hard=row.n_hard,
                mined_look_alikes=_mean([one for one in mine if one.n_hard], "mined_look_alikes"),
                fpr_with_look_alikes=_called(calls, cohort=cohort, look_alikes=True),
                fpr_without_look_alikes=_called(calls, cohort=cohort, look_alikes=False),
                facts=facts,
                seconds=sum(one.seconds for one in mine),
            )
        )
    return rows


def _mean(rows: Iterable[object], name: str) -> float:
    return _over_seeds(rows, name).mean


def _called(predictions: Sequence[PredictionRow], *, cohort: Cohort, look_alikes: bool) -> float:
    """Share called positive among the slides with look-alikes, or among those without."""
    calls = [
        row.prediction == POSITIVE
        for row in predictions
        if (cohort.truth[row.slide_id] == LOOK_ALIKE).any() == look_alikes
    ]
    return float(np.mean(calls))


def cohort_facts(cohort: Cohort) -> CohortFacts:
    lesions = [_share(bag, cohort, LESION) for bag in cohort.bags if bag.label == 1]
    look_alikes = [_share(bag, cohort, LOOK_ALIKE) for bag in cohort.bags if bag.label == 0]
    return CohortFacts(
        patches_a_slide=float(np.mean([len(bag) for bag in cohort.bags])),
        lesion_share=float(np.mean(lesions)),
        look_alike_share=float(np.mean([share for share in look_alikes if share > 0])),
        chance_look_alikes=float(np.mean(look_alikes)),
    )


def _share(bag: Bag, cohort: Cohort, code: int) -> float:
    return float((cohort.truth[bag.slide_id] == code).mean())


def run_all(output: Path) -> None:
    """Run every seed whose rows are not complete, one after the other."""
    for seed in SEEDS:
        folder = output / f"seed-{seed}"
        known = {row.arm for row in read_table(RESULTS, SeedRow) if row.seed == seed}
        if known >= set(ARMS):
            continue
        run_seed(folder, seed=seed, arms=ARMS)
        scores = [
            _score_row(row, seed=seed)
            for row in read_table(folder / "runs" / "main" / "predictions.csv", PredictionRow)
        ]
        others = [row for row in read_table(PREDICTIONS, ScoreRow) if row.seed != seed]
        write_table(PREDICTIONS, [*others, *scores], row=ScoreRow)
        others = [row for row in read_table(RESULTS, SeedRow) if row.seed != seed]
        write_table(RESULTS, [*others, *rows_of(folder, seed=seed)], row=SeedRow)


def _score_row(row: PredictionRow, *, seed: int) -> ScoreRow:
    """The score with seven digits: enough to rank bags, at half the file size."""
    trial, score = key_of(row), float(f"{row.bag_score:.7g}")
    return ScoreRow(seed, trial.arm, trial.fold, row.slide_id, row.label, score)


def check(output: Path) -> None:
    """Print the base arm on a seed without kept rows: is the cohort neither too easy nor too hard?"""
    for seed in CHECK_SEEDS:
        folder = output / f"seed-{seed}"
        run_seed(folder, seed=seed, arms=(BASE,))
        for row in rows_of(folder, seed=seed):
            print(row, flush=True)


def table(rows: Sequence[SeedRow]) -> list[str]:
    """Markdown: mean ± SE over seeds of each arm."""
    lines = _head("arm", *HEADS, "mined per seed", "share in look-alikes")
    for arm, found in by_arm(rows).items():
        cells = [shown(_over_seeds(found.values(), name)) for name in NUMBERS]
        mined = shown(MeanSE(_mean(found.values(), "n_hard"), np.nan, len(found), 0), n_digits=0)
        look_alikes = shown(_over_seeds(found.values(), "mined_look_alikes"))
        lines.append(_line(f"`{arm}`", *cells, mined, look_alikes))
    return lines


def by_arm(rows: Sequence[SeedRow]) -> dict[str, dict[int, SeedRow]]:
    """Rows by arm and seed, in the order of ARMS."""
    found = {arm: {row.seed: row for row in rows if row.arm == arm} for arm in ARMS}
    return {arm: of_arm for arm, of_arm in found.items() if of_arm}


def differences(rows: Sequence[SeedRow], predictions: Sequence[ScoreRow]) -> list[str]:
    """Markdown: the difference of each pair, paired by seed; for one FPR also the interval by slide."""
    found = by_arm(rows)
    lines = _head("difference", *HEADS, "FPR at 0.90 sens., by slide")
    for one in compared(predictions):
        cells = [shown(_paired(found[one.arm], found[one.other], name=name), sign="+") for name in NUMBERS]
        other = "random" if one.is_hard_minus_random else f"`{one.other}`"
        lines.append(_line(f"`{one.arm}` minus {other}", *cells, difference_cell(one)))
    return lines


def pairs(arms: Sequence[str]) -> list[tuple[str, str]]:
    """(arm, other): other is the base, the instance loss alone, or the random control."""
    found: list[tuple[str, str]] = []
    for arm in arms:
        others = [BASE, f"{arm}@random"]
        if arm == "ours+weigh-oof" or arm.startswith(f"{INSTANCE}+") or arm.startswith(f"{INSTANCE}-"):
            others.insert(1, INSTANCE)
        found += [(arm, other) for other in others if other in arms and other != arm]
    return found


def _paired(one: Mapping[int, SeedRow], other: Mapping[int, SeedRow], *, name: str) -> MeanSE:
    value = attrgetter(name)
    return mean_and_se([value(one[seed]) - value(other[seed]) for seed in sorted(one.keys() & other.keys())])


def compared(predictions: Sequence[ScoreRow]) -> list[Comparison]:
    """FPR at 0.90 sensitivity of each pair with its interval by slide; each cohort counts as one repeat."""
    rows = [
        PredictionRow(
            trial=TrialKey(row.arm, "case", "grid", row.seed, row.fold),
            slide_id=row.slide_id,
            case_id=f"{row.seed} {row.slide_id}",
            label=row.label,
            bag_score=row.bag_score,
        )
        for row in predictions
    ]
    arms = {one.key[0]: one for one in resample_arms(pool_predictions(rows, positive=POSITIVE), seed=0)}
    ordered = [arm for arm in ARMS if arm in arms]
    found = [one for pair in pairs(ordered) for one in compare(arms[pair[0]], arms[pair[1]])]
    return holm_corrected(one for one in found if one.metric == "fpr_at_sens_90")


def _over_seeds(rows: Iterable[object], name: str) -> MeanSE:
    return mean_and_se([float(value) for value in map(attrgetter(name), rows)])


def shown(value: MeanSE, *, sign: str = "", n_digits: int = 3) -> str:
    """Mean ± SE; empty if there is no value."""
    if np.isnan(value.mean):
        return ""
    spread = "" if np.isnan(value.se) else f" ± {value.se:.{n_digits}f}"
    return f"{value.mean:{sign}.{n_digits}f}{spread}"


def _head(*names: str) -> list[str]:
    return [_line(*names), "|---" * len(names) + "|"]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def notes(rows: Sequence[SeedRow]) -> list[str]:
    """Facts about the cohorts, whether look-alikes fool the base arm, and the time."""
    base = [row for row in rows if row.arm == BASE]
    patches, lesions, look_alikes, chance = (
        _mean(base, f"facts.{field.name}") for field in fields(CohortFacts)
    )
    held, plain = _mean(base, "fpr_with_look_alikes"), _mean(base, "fpr_without_look_alikes")
    minutes = sum(row.seconds for row in rows) / 60 / len(base)
    return [
        f"{len(base)} seed(s), {patches:.0f} patches per slide, {minutes:.0f} minutes of training per seed.",
        f"Patches in lesions: {lesions:.1%} of a positive slide. "
        f"Patches in look-alikes: {look_alikes:.1%} of a",
        f"negative slide that has any; by chance, {chance:.3f} of the mined patches. FPR of `{BASE}` at 0.5:",
        f"{held:.3f} on negative slides with look-alikes, {plain:.3f} on those without.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("rare-foci-study"), help="folder of the studies")
    parser.add_argument("--check", action="store_true", help="the base arm alone, on a separate seed")
    parser.add_argument("--table", action="store_true", help="only print the tables of the existing rows")
    options = parser.parse_args()
    if options.check:
        return check(options.output)
    if not options.table:
        run_all(options.output)
    rows, predictions = read_table(RESULTS, SeedRow), read_table(PREDICTIONS, ScoreRow)
    print(
        "\n".join(
            [*table(rows), "", *differences(rows, predictions), "", FIXED_SENSITIVITY, "", *notes(rows)]
        )
    )


if __name__ == "__main__":
    main()
