"""The annotations of a study's slides: whether they have the classes that the settings name."""

from collections.abc import Iterable
from pathlib import Path

from hardmil.errors import ConfigError, TableError
from hardmil.files.geojson import read_regions
from hardmil.preprocessing.study_folder import Study
from hardmil.slides.tissue import ANY

NO_CLASS = "areas without a class"


def check_annotated_classes(study: Study) -> None:
    """Check that each class in `patches.tissue.keep` and `drop` is in an annotation of the study.

    A misspelled class would keep nothing, or drop nothing. Files that cannot be read are skipped: each is an
    error of its slide.

    Raises:
        ConfigError: If one is in none; the classes found are named.
    """
    tissue = study.config.patches.tissue
    wanted = {"keep": tissue.keep, "drop": tissue.drop}
    if not any(name != ANY for names in wanted.values() for name in names):
        return
    paths = {row.annotations for row in study.slide_table.rows if row.annotations is not None}
    found = _classes(sorted(paths))
    for setting, names in wanted.items():
        for name in names:
            if name != ANY and name not in found:
                shown = ", ".join(sorted(one or NO_CLASS for one in found)) or "no annotations"
                raise ConfigError(
                    f'{study.folder}: patches.tissue.{setting} names "{name}", which no annotation of the '
                    f"study has; found {shown}; correct the name, or the annotations column of the table"
                )


def _classes(paths: Iterable[Path]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        try:
            found.update(region.name for region in read_regions(path))
        except TableError:
            continue
    return found
