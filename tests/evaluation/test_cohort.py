from dataclasses import replace
from typing import Any

from tests.support.trainings import small_bags

from hardmil.bags.bag import Bag
from hardmil.evaluation.cohort import make_cohort


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
