"""`hardmil encode STUDY`: pixels or embeddings of every patch, one bag file a slide."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hardmil.bags.cutting import write_instances
from hardmil.bags.encoder import PatchEncoder, encoder_notes, open_encoder
from hardmil.bags.encoding import Files, encode_slides
from hardmil.bags.manifest import SlideRow
from hardmil.commands.outcome import Outcome
from hardmil.commands.over_slides import over_slides
from hardmil.commands.study_folder import Study, count
from hardmil.config import PIXELS, CutConfig, cut_config
from hardmil.config_file import read_study
from hardmil.jobs import JobResults


def encode(
    path: Path, *, overrides: Sequence[str] = (), device: str | None = None, quiet: bool = False
) -> Outcome:
    """Write features_<encoder>/<slide_id>.h5 of each slide that has none under the same knobs.

    Raises:
        ConfigError: If the study reads ready-made features, or there is no such encoder.
    """
    # Opened once for all slides.
    study_config, folder = read_study(path, overrides=overrides)
    config, precision = cut_config(study_config), study_config.training.precision
    encoder = encoder_of(
        config, device=device or study_config.device, precision=precision, folders=(folder, Path())
    )

    def write(study: Study, row: SlideRow) -> int:
        places, path = study.places(row.slide_id), study.instances(row.slide_id)
        return write_instances(row, config=config, places=places, path=path)

    def embed(study: Study, rows: Sequence[SlideRow], quiet: bool) -> JobResults[int]:
        def files(row: SlideRow) -> Files:
            return Files(study.places(row.slide_id), study.instances(row.slide_id))

        assert encoder is not None
        return encode_slides(rows, config=config, encoder=encoder, files=files, quiet=quiet)

    done = over_slides(
        path,
        write,
        command="encode",
        label="reading patches",
        folder_of=lambda study: study.instances_folder,
        line=lambda patches, slides: f"{count(slides, 'bag')} of {patches} patches",
        overrides=overrides,
        quiet=quiet,
        together=None if encoder is None else embed,
    )
    notes = [] if encoder is None else encoder_notes(config, encoder)
    return replace(done, lines=[*notes, *done.lines])


def encoder_of(
    config: CutConfig, *, device: str, precision: str = "auto", folders: tuple[Path, ...] = ()
) -> PatchEncoder | None:
    """The encoder that a study or a bundle names; None for pixels. A download is told of on stderr.

    Args:
        config: Of the study or bundle.
        device: Where it runs.
        precision: auto: half where the device is fast at it; float32; bfloat16.
        folders: Where a relative path to its file may start.

    Raises:
        ConfigError: If there is no such encoder, or what it needs is not installed.
        TrainingError: If there is no such device here.
    """
    if config.encode == PIXELS:
        return None
    from hardmil.mil.training import find_device

    where = find_device(device, precision=precision)
    half = "bfloat16" if where.bfloat16 else None
    if half is None and precision == "auto" and where.name.startswith("cuda"):
        # A GPU without bfloat16 is fast at float16 all the same.
        half = "float16"
    return open_encoder(
        config.encode,
        device=where.name,
        half=half,
        input_px=config.encode_px,
        folders=folders,
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    )
