"""Whether what the settings of a study name is there: device, encoder, feature files."""

import hashlib
from collections.abc import Callable, Mapping

from hardmil.bags.feature_folder import find_feature_file, read_features
from hardmil.bags.slide_table import SlideRow
from hardmil.config.study import PIXELS, instance_config
from hardmil.device import find_device
from hardmil.encoders.open_encoder import encoder_of
from hardmil.errors import HardmilError
from hardmil.jobs.failures import Failure
from hardmil.jobs.run import run_jobs
from hardmil.preprocessing.study_folder import Study, slide_name


def check_settings(study: Study, *, quiet: bool = False) -> list[Failure]:
    """Why the device, the encoder, or the feature file of a slide cannot be used; empty if all can.

    A device that is missing is not asked to hold the encoder.
    """
    config = study.config
    device = failures_of("device", lambda: find_device(config.device))
    if config.features is not None:
        return [*device, *_feature_failures(study, quiet=quiet)]
    if config.encode == PIXELS or device:
        return device
    folders = (study.folder,)
    return failures_of(
        "encoder", lambda: encoder_of(instance_config(config), device=config.device, folders=folders)
    )


def failures_of(name: str, check: Callable[[], object]) -> list[Failure]:
    """The error that a check raises, as a failure with this name."""
    try:
        check()
    except HardmilError as error:
        return [Failure(name=name, message=str(error), traceback="")]
    return []


def _feature_failures(study: Study, *, quiet: bool) -> list[Failure]:
    folder = study.folder / (study.config.features or "")

    def digest(row: SlideRow) -> bytes:
        bag = read_features(find_feature_file(folder, slide_id=row.slide_id), row, label=-1)
        return hashlib.blake2b(bag.instances.tobytes(), digest_size=16).digest()

    rows = study.slide_table.rows
    done = run_jobs(digest, rows, name=slide_name, label="reading features", quiet=quiet)
    return [*done.failures, *_copies(done.results)]


def _copies(digests: Mapping[str, bytes]) -> list[Failure]:
    """A failure for each slide whose features are those of an earlier one."""
    first: dict[bytes, str] = {}
    found: list[Failure] = []
    for slide_id, digest in digests.items():
        other = first.setdefault(digest, slide_id)
        if other != slide_id:
            message = (
                f"its features are identical to those of {other}; expected those of its own slide; one file "
                "was copied under two names, or one slide is listed twice: correct the file, or remove a row"
            )
            found.append(Failure(name=slide_id, message=message, traceback=""))
    return found
