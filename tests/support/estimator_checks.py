"""Run scikit-learn's checks on MILClassifier, and print the failures as JSON.

A program of its own: the tests check annotations, which some of these checks break on purpose.
"""

import json
import warnings

import numpy as np
from sklearn.utils.estimator_checks import check_estimator

from hardmil import MILClassifier


class RowsAsBags(MILClassifier):
    """For the checks, which give one table: each row is a bag of one instance."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags

    def fit(self, X, y, *, groups=None, sample_weight=None):  # noqa: N803
        return super().fit(_bags_of(X), y, groups=groups, sample_weight=sample_weight)

    def predict_proba(self, rows):
        return super().predict_proba(_bags_of(rows))

    @property
    def decision_function(self):
        of_bags = super().decision_function
        return lambda rows: of_bags(_bags_of(rows))

    def predict(self, rows):
        return super().predict(_bags_of(rows))


def _bags_of(rows):
    if hasattr(rows, "iloc"):
        return [rows.iloc[i : i + 1] for i in range(len(rows))]
    array = np.asarray(rows)
    return [array[i : i + 1] for i in range(len(array))]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    model = RowsAsBags(epochs=8, lr=1e-2, bags_per_step=4, device="cpu")
    done = check_estimator(model, on_fail=None, on_skip=None)
    print(json.dumps({one["check_name"]: [one["status"], str(one["exception"])] for one in done}))
