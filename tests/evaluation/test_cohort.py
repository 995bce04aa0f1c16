import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.support.trainings import small_bags

from hardmil.bags.bag import Bag
from hardmil.bags.pseudonyms import Pseudonyms
from hardmil.config.study import StudyConfig
from hardmil.errors import ConfigError
from hardmil.evaluation.arms import arm
from hardmil.evaluation.cohort import deidentified_cohort, make_cohort


def _changed(bag: Bag, **changes: Any) -> list[Bag]:
    return [replace(bag, **changes), *small_bags()[1:]]


def test_the_digest_changes_with_anything_in_the_bags():
    first = small_bags()[0]
    features, coords = first.instances.copy(), first.coords.copy()
    features[4, 2] += 1
    coords[0, 1] += 1
    cohorts = [
        small_bags(),
        small_bags()[::-1],
        small_bags()[1:],
        _changed(first, slide_id="t0"),
        _changed(first, case_id="d0"),
        _changed(first, label=1),
        _changed(first, instances=features),
        _changed(first, coords=coords),
    ]
    digests = [make_cohort(bags).digest for bags in cohorts]
    assert len(set(digests)) == len(cohorts)
    assert make_cohort(small_bags()).digest == digests[0]


def test_a_cohort_knows_labels_and_cases():
    cohort = make_cohort(small_bags(3))
    assert cohort.labels.tolist() == [0, 1, 0]
    assert cohort.cases == ["c0", "c1", "c2"]


@pytest.mark.parametrize(("name", "n_usable"), [("ours+verdicts", 3), ("ours+verdicts-2", 1)])
def test_an_arm_with_verdicts_needs_some_on_its_training_slides(name: str, n_usable: int):
    """Slide 1 of the three is positive; a budget is spent on positive slides only."""
    bags = small_bags(3)
    found = arm(name, study=StudyConfig(), kind="features")
    usable = [bag for bag in bags if n_usable == 3 or bag.label == 1]
    assert len(usable) == n_usable
    for judged in bags:
        verdicts = {bag.slide_id: np.full(len(bag), np.nan, np.float32) for bag in bags}
        verdicts[judged.slide_id][2] = 0
        cohort = make_cohort(bags, verdicts=verdicts)
        cohort.check_verdicts(arm("ours", study=StudyConfig(), kind="features"), bags)
        if judged in usable:
            cohort.check_verdicts(found, bags)
        others = bags if judged not in usable else [bag for bag in bags if bag is not judged]
        message = rf"arm {re.escape(name)}: no verdict on any patch of the training slides"
        with pytest.raises(ConfigError, match=message):
            cohort.check_verdicts(found, others)


def test_a_deidentified_cohort_has_other_ids_and_the_same_truth():
    bags = small_bags(2)
    truth = {bags[0].slide_id: np.ones(len(bags[0]), np.int8)}
    names = Pseudonyms(
        {bag.slide_id: f"slide-{i}" for i, bag in enumerate(bags)},
        {bag.slide_id: f"case-{i}" for i, bag in enumerate(bags)},
    )
    cohort = make_cohort(bags, truth=truth)
    found = deidentified_cohort(cohort, names)
    assert [(bag.slide_id, bag.case_id) for bag in found.bags] == [
        ("slide-0", "case-0"),
        ("slide-1", "case-1"),
    ]
    assert found.truth == {"slide-0": truth[bags[0].slide_id]}
    assert found.verdicts.keys() == {"slide-0"}
    assert found.labels.tolist() == cohort.labels.tolist()
    assert found.digest != cohort.digest, "records with ids are not used again"
