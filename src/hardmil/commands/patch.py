"""`hardmil patch STUDY`: tissue and places of the patches of every slide."""

from collections.abc import Sequence
from pathlib import Path

from hardmil.bags.cutting import write_places
from hardmil.bags.manifest import SlideRow
from hardmil.commands.outcome import Outcome
from hardmil.commands.over_slides import over_slides
from hardmil.commands.study_folder import Study, count


def patch(path: Path, *, overrides: Sequence[str] = (), quiet: bool = False) -> Outcome:
    """Write patches/<slide_id>_patches.h5 of each slide that has none under the same knobs.

    Raises:
        ConfigError: If the study reads ready-made features.
    """
    return over_slides(
        path,
        _place,
        command="patch",
        label="placing patches",
        folder_of=lambda study: study.places_folder,
        line=lambda patches, slides: f"{count(patches, 'patch place')} on {count(slides, 'slide')}",
        overrides=overrides,
        quiet=quiet,
    )


def _place(study: Study, row: SlideRow) -> int:
    return write_places(row, config=study.config.patches, path=study.places(row.slide_id))
