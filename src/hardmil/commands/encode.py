"""`hardmil encode STUDY`: pixels or embeddings of every patch, one bag file a slide."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

from hardmil.bags.slide_table import SlideRow
from hardmil.config.study import InstanceConfig, instance_config
from hardmil.config.study_file import read_study
from hardmil.encoders.encoder import PatchEncoder, encoder_notes
from hardmil.encoders.open_encoder import encoder_of
from hardmil.jobs.outcome import Outcome, count
from hardmil.jobs.run import JobResults
from hardmil.preprocessing.encoding import Files, encode_slides
from hardmil.preprocessing.instances import write_instances
from hardmil.preprocessing.process_slides import (
    RunOptions,
    SlideResult,
    Stage,
    process_slides,
    skip_if_locked,
    slides_outcome,
)
from hardmil.preprocessing.study_folder import Study

DEFAULT_OPTIONS = RunOptions()


def encode(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    device: str | None = None,
    options: RunOptions = DEFAULT_OPTIONS,
) -> Outcome:
    """Write features_<encoder>/<slide_id>.h5 of each slide that has none under the same knobs.

    Raises:
        ConfigError: If the study reads ready-made features, or there is no such encoder.
    """
    settings, folder = read_study(path, overrides=overrides)
    where = device or settings.device
    config, precision = instance_config(settings), settings.training.precision
    # Opened before any slide, so that a missing one is one error and not one a slide.
    encoder = encoder_of(config, device=where, precision=precision, folders=(folder, Path()))
    stage = Stage("encode", "reading patches", _write)
    if encoder is not None:
        opened = (settings.encode, settings.encode_px, where, precision, folder)
        embed = partial(_embed, encoder) if options.engine.is_here else partial(_embed_there, opened)
        stage = Stage("encode", "encoding", _write, embed)
    done = process_slides(path, stage, overrides=overrides, options=options)
    outcome = slides_outcome(
        done,
        command="encode",
        folder=done.study.bags_folder,
        line=lambda patches, slides: f"{count(slides, 'bag')} of {patches} patches",
    )
    notes = [] if encoder is None else encoder_notes(config, encoder)
    return replace(outcome, lines=[*notes, *outcome.lines])


def _write(study: Study, row: SlideRow) -> SlideResult | None:
    places, path = study.coords_path(row.slide_id), study.bag_path(row.slide_id)
    config = instance_config(study.config)
    return skip_if_locked(
        path, lambda: SlideResult(write_instances(row, config=config, places=places, path=path))
    )


def _embed(
    encoder: PatchEncoder, study: Study, rows: Sequence[SlideRow], options: RunOptions
) -> JobResults[SlideResult | None]:
    def files(row: SlideRow) -> Files:
        return Files(study.coords_path(row.slide_id), study.bag_path(row.slide_id))

    config = instance_config(study.config)
    done = encode_slides(
        rows, config=config, encoder=encoder, files=files, limit_s=options.limit_s, quiet=options.quiet
    )
    made = {name: None if n is None else SlideResult(n) for name, n in done.results.items()}
    return JobResults(made, done.failures)


Opened = tuple[str, int | None, str, str, Path]
"""What `_encoder` opens an encoder by."""


def _embed_there(
    opened: Opened, study: Study, rows: Sequence[SlideRow], options: RunOptions
) -> JobResults[SlideResult | None]:
    """The same in a worker."""
    encoder = _encoder(*opened)
    assert encoder is not None
    return _embed(encoder, study, rows, options)


@lru_cache(maxsize=1)
def _encoder(
    encode: str, encode_px: int | None, device: str, precision: str, folder: Path
) -> PatchEncoder | None:
    """The study's encoder, opened once a worker."""
    config = InstanceConfig(encode=encode, encode_px=encode_px)
    return encoder_of(config, device=device, precision=precision, folders=(folder, Path()))
