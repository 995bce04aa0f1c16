"""The folds of a study: from its splits files, or drawn by case."""

from dataclasses import replace

import numpy as np

from hardmil.bags.folds import Fold, repeated_folds
from hardmil.bags.split_files import read_splits
from hardmil.evaluation.cohort import Cohort
from hardmil.preprocessing.study_folder import Study


def study_folds(study: Study, *, cohort: Cohort, left_out: set[str]) -> list[list[Fold]]:
    """The folds of a study, [repeat][fold]: from its splits files, or drawn by case.

    Train and val of a splits file are used together for training: hardmil holds out its own validation cases.
    """
    config = study.config.evaluation
    if config.splits is None:
        return repeated_folds(
            study.config.task.fold_labels(cohort.labels),
            cohort.cases,
            n_folds=config.folds,
            n_repeats=config.repeats,
            seed=study.config.seed,
            names=study.config.task.names,
        )
    slide_ids = [bag.slide_id for bag in cohort.bags]
    folds = read_splits(study.folder / config.splits, slide_ids, failed=left_out)
    return [[_with_validation_in_train(fold) for fold in folds]]


def _with_validation_in_train(fold: Fold) -> Fold:
    if fold.validation is None:
        return fold
    return replace(fold, train=np.sort(np.concatenate([fold.train, fold.validation])), validation=None)
