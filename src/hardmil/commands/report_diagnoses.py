"""What is wrong with the attention of an arm on the slides held out, for the report."""

from hardmil.mil.diagnosis import diagnose
from hardmil.report.page_data import Diagnosis
from hardmil.study.evaluation import Evaluation, TrialRows
from hardmil.study.results import read_score, trial_name
from hardmil.study.truth import verdicts_of_truth


def diagnoses_of_arm(evaluation: Evaluation, *, rows: TrialRows, arm: str) -> list[Diagnosis]:
    """Of the arm's first repeat, slide by slide, by label; none where trials/ was thrown away."""
    predictions = [row for row in rows.predictions if row["arm"] == arm]
    first = min((int(row["repeat"]) for row in predictions), default=0)
    hashes = {trial_name(row): row["config_hash"] for row in rows.results}
    truth = verdicts_of_truth(evaluation.cohort.truth)
    found: list[Diagnosis] = []
    for row in predictions:
        stored = evaluation.folder / "trials" / hashes[trial_name(row)] / "attention.h5"
        if int(row["repeat"]) != first or not stored.exists():
            continue
        slide_id = row["slide_id"]
        score = read_score(stored, slide_id=slide_id)
        is_positive = row["label"] == evaluation.classes[1]
        found += [
            Diagnosis(slide_id, one.finding, one.meaning, one.remedy)
            for one in diagnose(score, is_positive=is_positive, truth=truth.get(slide_id))
        ]
    return found
