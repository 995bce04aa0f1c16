"""The bags of a study as trials share them, with what is known of their patches."""

from collections.abc import Sequence

from hardmil.bags.bag import Bag
from hardmil.evaluation.trial import Cohort, make_cohort
from hardmil.evaluation.truth import TRUTH_NAMES, Truth, truth_of_regions
from hardmil.files.geojson import regions_beside
from hardmil.mining.verdicts import read_verdicts
from hardmil.preprocessing.study_folder import Study


def study_cohort(study: Study, *, bags: Sequence[Bag]) -> Cohort:
    """The bags with what is known of their patches: truth beside made-up slides, and the table of verdicts.

    Raises:
        TableError: If the table of verdicts is not what it must be.
    """
    table = study.config.mining.verdicts
    verdicts = read_verdicts(study.folder / table, bags) if table is not None else None
    return make_cohort(bags, truth=_truth(study, bags), verdicts=verdicts)


def _truth(study: Study, bags: Sequence[Bag]) -> dict[str, Truth]:
    paths = {row.slide_id: row.path for row in study.manifest.rows}
    found: dict[str, Truth] = {}
    for bag in bags:
        path = paths[bag.slide_id]
        regions = regions_beside(path) if path is not None and bag.size_level0_px > 0 else None
        if regions is not None and all(one.name in TRUTH_NAMES for one in regions):
            found[bag.slide_id] = truth_of_regions(bag, regions=regions)
    return found
