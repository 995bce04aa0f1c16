"""`hardmil encode STUDY`: the pixels of every patch, one bag file a slide."""

from collections.abc import Sequence
from pathlib import Path

from hardmil.bags.cutting import write_pixels
from hardmil.bags.manifest import SlideRow
from hardmil.commands.outcome import Outcome
from hardmil.commands.over_slides import over_slides
from hardmil.commands.study_folder import Study, count


def encode(path: Path, *, overrides: Sequence[str] = (), quiet: bool = False) -> Outcome:
    """Write features_pixels/<slide_id>.h5 of each slide that has none under the same knobs.

    Raises:
        ConfigError: If the study reads ready-made features.
    """
    return over_slides(
        path,
        _read,
        command="encode",
        label="reading patches",
        folder_of=lambda study: study.pixels_folder,
        line=lambda patches, slides: f"{count(slides, 'bag')} of {patches} patches",
        overrides=overrides,
        quiet=quiet,
    )


def _read(study: Study, row: SlideRow) -> int:
    places, pixels = study.places(row.slide_id), study.pixels(row.slide_id)
    return write_pixels(row, config=study.config.patches, places=places, path=pixels)
