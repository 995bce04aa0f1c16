"""Whether what the settings of a study name is there: device and encoder."""

from collections.abc import Callable

from hardmil.config.study import PIXELS, instance_config
from hardmil.device import find_device
from hardmil.encoders.open_encoder import encoder_of
from hardmil.errors import HardmilError
from hardmil.jobs.failures import Failure
from hardmil.preprocessing.study_folder import Study


def check_settings(study: Study) -> list[Failure]:
    """Why the device or the encoder cannot be used; empty if both can.

    A device that is missing is not asked to hold the encoder.
    """
    config = study.config
    device = failures_of("device", lambda: find_device(config.device))
    if config.features is not None or config.encode == PIXELS or device:
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
