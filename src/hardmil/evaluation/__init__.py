"""Arms, repeats and folds: trials, what they share, the guard against leaks.

Their rows in results.csv, predictions.csv and hard_negatives.csv.
"""

from hardmil.evaluation.arm_name import ArmName as ArmName
from hardmil.evaluation.arm_name import parse_arm_name as parse_arm_name
from hardmil.evaluation.arms import Arm as Arm
from hardmil.evaluation.arms import arm as arm
from hardmil.evaluation.cohort import Cohort as Cohort
from hardmil.evaluation.cohort import make_cohort as make_cohort
from hardmil.evaluation.evaluation import Evaluation as Evaluation
from hardmil.evaluation.evaluation import TrialRows as TrialRows
from hardmil.evaluation.evaluation import evaluate_arms as evaluate_arms
from hardmil.evaluation.evaluation import valid_rows as valid_rows
from hardmil.evaluation.results import HardNegativeRow as HardNegativeRow
from hardmil.evaluation.results import PredictionRow as PredictionRow
from hardmil.evaluation.results import ResultRow as ResultRow
from hardmil.evaluation.results import TrialKey as TrialKey
from hardmil.evaluation.trial import Trial as Trial
from hardmil.evaluation.trial import TrialResult as TrialResult
from hardmil.evaluation.trial import run_trial as run_trial
