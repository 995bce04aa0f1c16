"""MILClassifier: a scikit-learn estimator on bags in memory.

What users give as bags and labels is read and checked in files of their own.
"""

from hardmil.estimator.classifier import MILClassifier as MILClassifier
