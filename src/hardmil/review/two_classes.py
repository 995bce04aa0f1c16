"""Which studies can be reviewed: those of two classes."""

from hardmil.errors import ConfigError
from hardmil.preprocessing.study_folder import Study


def check_two_classes(study: Study) -> None:
    """Check that a study has two classes: a verdict says lesion or not, and does not name a class.

    Raises:
        ConfigError: If it has more.
    """
    task = study.config.task
    if not task.is_binary:
        raise ConfigError(
            f"{study.folder}: {task.n_classes} classes; expected two, because a verdict of a review does not "
            "name a class yet; look at the hard negatives of each class with hardmil mine, or in report.html"
        )
