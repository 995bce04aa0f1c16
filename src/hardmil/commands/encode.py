"""`hardmil encode STUDY`: pixels or embeddings of every patch, one bag file a slide."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

from hardmil.bags.slide_table import SlideRow
from hardmil.config.study import CutConfig, cut_config
from hardmil.config.study_file import read_study
from hardmil.encoders.encoder import PatchEncoder, encoder_notes
from hardmil.encoders.open_encoder import encoder_of
from hardmil.jobs.outcome import Outcome, count
from hardmil.jobs.run import JobResults
from hardmil.preprocessing.encoding import Files, encode_slides
from hardmil.preprocessing.instances import write_instances
from hardmil.preprocessing.over_slides import Made, Over, Stage, over_slides, slides_outcome, unless_busy
from hardmil.preprocessing.study_folder import Study

USUAL = Over()


def encode(
    path: Path, *, overrides: Sequence[str] = (), device: str | None = None, over: Over = USUAL
) -> Outcome:
    """Write features_<encoder>/<slide_id>.h5 of each slide that has none under the same knobs.

    Raises:
        ConfigError: If the study reads ready-made features, or there is no such encoder.
    """
    knobs, folder = read_study(path, overrides=overrides)
    where = device or knobs.device
    config, precision = cut_config(knobs), knobs.training.precision
    # Opened before any slide, so that a missing one is one error and not one a slide.
    encoder = encoder_of(config, device=where, precision=precision, folders=(folder, Path()))
    stage = Stage("encode", "reading patches", _write)
    if encoder is not None:
        opened = (knobs.encode, knobs.encode_px, where, precision, folder)
        embed = partial(_embed, encoder) if over.engine.is_here else partial(_embed_there, opened)
        stage = Stage("encode", "encoding", _write, embed)
    done = over_slides(path, stage, overrides=overrides, over=over)
    outcome = slides_outcome(
        done,
        command="encode",
        folder=done.study.instances_folder,
        line=lambda patches, slides: f"{count(slides, 'bag')} of {patches} patches",
    )
    notes = [] if encoder is None else encoder_notes(config, encoder)
    return replace(outcome, lines=[*notes, *outcome.lines])


def _write(study: Study, row: SlideRow) -> Made | None:
    places, path = study.places(row.slide_id), study.instances(row.slide_id)
    config = cut_config(study.config)
    return unless_busy(path, lambda: Made(write_instances(row, config=config, places=places, path=path)))


def _embed(
    encoder: PatchEncoder, study: Study, rows: Sequence[SlideRow], over: Over
) -> JobResults[Made | None]:
    def files(row: SlideRow) -> Files:
        return Files(study.places(row.slide_id), study.instances(row.slide_id))

    config = cut_config(study.config)
    done = encode_slides(
        rows, config=config, encoder=encoder, files=files, limit_s=over.limit_s, quiet=over.quiet
    )
    made = {name: None if n is None else Made(n) for name, n in done.results.items()}
    return JobResults(made, done.failures)


Opened = tuple[str, int | None, str, str, Path]
"""What `_encoder` opens an encoder by."""


def _embed_there(
    opened: Opened, study: Study, rows: Sequence[SlideRow], over: Over
) -> JobResults[Made | None]:
    """The same in a worker."""
    encoder = _encoder(*opened)
    assert encoder is not None
    return _embed(encoder, study, rows, over)


@lru_cache(maxsize=1)
def _encoder(
    encode: str, encode_px: int | None, device: str, precision: str, folder: Path
) -> PatchEncoder | None:
    """The study's encoder, opened once a worker."""
    config = CutConfig(encode=encode, encode_px=encode_px)
    return encoder_of(config, device=device, precision=precision, folders=(folder, Path()))
