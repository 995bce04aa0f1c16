"""From rows to numbers: summaries over repeats, intervals by case, comparisons of arms.

Also curves with bands.
"""

from hardmil.statistics.comparisons import Comparison as Comparison
from hardmil.statistics.comparisons import compare_arms as compare_arms
from hardmil.statistics.intervals import Interval as Interval
from hardmil.statistics.intervals import resample_arms as resample_arms
from hardmil.statistics.pooled_predictions import pool_predictions as pool_predictions
from hardmil.statistics.summary import ArmSummary as ArmSummary
from hardmil.statistics.summary import summarise as summarise
from hardmil.statistics.tables import Statistics as Statistics
from hardmil.statistics.tables import write_statistics as write_statistics
