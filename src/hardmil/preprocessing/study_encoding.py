"""Make the bag of every slide of a study: pixels, or embeddings of its encoder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

from hardmil.bags.slide_table import SlideRow
from hardmil.config.study import InstanceConfig, instance_config
from hardmil.encoders.encoder import PatchEncoder, encoder_notes
from hardmil.encoders.open_encoder import encoder_of
from hardmil.jobs.run import JobResults
from hardmil.preprocessing.encoding import Files, encode_slides
from hardmil.preprocessing.instances import write_instances
from hardmil.preprocessing.process_slides import (
    DEFAULT_OPTIONS,
    ProcessedSlides,
    RunOptions,
    SlideResult,
    Stage,
    process_slides,
    skip_if_locked,
)
from hardmil.preprocessing.study_folder import Study


def encode_study(
    study: Study, *, device: str | None = None, options: RunOptions = DEFAULT_OPTIONS
) -> ProcessedSlides:
    """Write features_<encoder>/<slide_id>.h5 of every slide that has none under the same settings.

    Args:
        study: The study; slides that were not patched are patched first.
        device: Where the encoder runs; the study's `device` by default.
        options: Where and how long slides are processed.

    Raises:
        ConfigError: If the study reads ready-made features, or its encoder is not available.
        StoreError: If the disk is full, or the folder is not writable.
    """
    config = study.config
    wanted = _EncoderRequest(
        config.encode, config.encode_px, device or config.device, config.training.precision, study.folder
    )
    # Opened before any slide: one error if it is missing, not one for each slide.
    encoder = wanted.open()
    stage = Stage("encode", "reading patches", study.bags_folder, _write_pixels)
    if encoder is None:
        return process_slides(study, stage, options=options)
    embed = partial(_embed, encoder) if options.engine.is_here else partial(_embed_in_worker, wanted)
    done = process_slides(study, replace(stage, label="encoding", batch=embed), options=options)
    return replace(done, remarks=encoder_notes(instance_config(config), encoder))


@dataclass(frozen=True)
class _EncoderRequest:
    """All that is needed to open the encoder of a study in another process."""

    encode: str
    encode_px: int | None
    device: str
    precision: str
    folder: Path

    def open(self) -> PatchEncoder | None:
        """The encoder; None for pixels."""
        config = InstanceConfig(encode=self.encode, encode_px=self.encode_px)
        folders = (self.folder, Path())
        return encoder_of(config, device=self.device, precision=self.precision, folders=folders)


def _write_pixels(study: Study, row: SlideRow) -> SlideResult | None:
    coords, path = study.coords_path(row.slide_id), study.bag_path(row.slide_id)
    config = instance_config(study.config)
    return skip_if_locked(
        path, lambda: SlideResult(write_instances(row, config=config, coords_path=coords, path=path))
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


def _embed_in_worker(
    wanted: _EncoderRequest, study: Study, rows: Sequence[SlideRow], options: RunOptions
) -> JobResults[SlideResult | None]:
    encoder = _open_once(wanted)
    assert encoder is not None
    return _embed(encoder, study, rows, options)


@lru_cache(maxsize=1)
def _open_once(wanted: _EncoderRequest) -> PatchEncoder | None:
    """The encoder, opened once in each worker."""
    return wanted.open()
