"""`hardmil encode STUDY`: pixels or embeddings of every patch, one bag file a slide."""

from collections.abc import Sequence
from pathlib import Path

from hardmil.bags.cutting import write_instances
from hardmil.bags.encoder import PatchEncoder, open_encoder
from hardmil.bags.manifest import SlideRow
from hardmil.commands.outcome import Outcome
from hardmil.commands.over_slides import over_slides
from hardmil.commands.study_folder import Study, count
from hardmil.config import PIXELS, CutConfig, cut_config
from hardmil.config_file import read_study


def encode(
    path: Path, *, overrides: Sequence[str] = (), device: str | None = None, quiet: bool = False
) -> Outcome:
    """Write features_<encoder>/<slide_id>.h5 of each slide that has none under the same knobs.

    Raises:
        ConfigError: If the study reads ready-made features, or there is no such encoder.
    """
    # Opened once for all slides.
    study_config, _ = read_study(path, overrides=overrides)
    config = cut_config(study_config)
    encoder = encoder_of(config, device=device or study_config.device)

    def write(study: Study, row: SlideRow) -> int:
        places, path = study.places(row.slide_id), study.instances(row.slide_id)
        return write_instances(row, config=config, places=places, path=path, encoder=encoder)

    return over_slides(
        path,
        write,
        command="encode",
        label="reading patches",
        folder_of=lambda study: study.instances_folder,
        line=lambda patches, slides: f"{count(slides, 'bag')} of {patches} patches",
        overrides=overrides,
        quiet=quiet,
    )


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
