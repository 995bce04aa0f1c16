"""`hardmil encode STUDY`: pixels or embeddings of every patch, one bag file a slide."""

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

from hardmil.bags.cutting import write_instances
from hardmil.bags.encoder import PatchEncoder, open_encoder
from hardmil.bags.manifest import SlideRow
from hardmil.commands.outcome import Outcome
from hardmil.commands.over_slides import Cut, Over, over_slides, slides_outcome
from hardmil.commands.study_folder import Study, count
from hardmil.config import PIXELS, CutConfig, cut_config
from hardmil.config_file import read_study

USUAL = Over()


def encode(
    path: Path, *, overrides: Sequence[str] = (), device: str | None = None, over: Over = USUAL
) -> Outcome:
    """Write features_<encoder>/<slide_id>.h5 of each slide that has none under the same knobs.

    Raises:
        ConfigError: If the study reads ready-made features, or there is no such encoder.
    """
    study_config, _ = read_study(path, overrides=overrides)
    where = device or study_config.device
    # Opened before any slide, so that a missing one is one error and not one a slide.
    _encoder(study_config.encode, study_config.encode_px, where)
    cut = Cut("encode", "reading patches", partial(_write, where), _file_of)
    done = over_slides(path, cut, overrides=overrides, over=over)
    return slides_outcome(
        done,
        command="encode",
        folder=done.study.instances_folder,
        line=lambda patches, slides: f"{count(slides, 'bag')} of {patches} patches",
    )


def _write(device: str, study: Study, row: SlideRow) -> int:
    config = cut_config(study.config)
    places, path = study.places(row.slide_id), study.instances(row.slide_id)
    encoder = _encoder(config.encode, config.encode_px, device)
    return write_instances(row, config=config, places=places, path=path, encoder=encoder)


def _file_of(study: Study, row: SlideRow) -> Path:
    return study.instances(row.slide_id)


@lru_cache(maxsize=1)
def _encoder(encode: str, encode_px: int | None, device: str) -> PatchEncoder | None:
    """The study's encoder, opened once a process."""
    return encoder_of(CutConfig(encode=encode, encode_px=encode_px), device=device)


def encoder_of(config: CutConfig, *, device: str) -> PatchEncoder | None:
    """The encoder that a study or a bundle names; None for pixels.

    Raises:
        ConfigError: If there is no such encoder, or what it needs is not installed.
        TrainingError: If there is no such device here.
    """
    if config.encode == PIXELS:
        return None
    from hardmil.mil.training import find_device

    return open_encoder(config.encode, device=find_device(device).name, input_px=config.encode_px)
