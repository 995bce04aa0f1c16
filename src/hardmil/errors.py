"""The errors that a user can meet.

Every message names the slide, bag or file, what was found, what was expected, and what to do. The command
line catches only `HardmilError`; anything else is a bug and keeps its traceback.
"""

MOST_CHARS = 4_000
"""Longest message. What was found may be a text of megabytes."""


class HardmilError(Exception):
    """Base class of all errors that the user can fix."""

    def __str__(self) -> str:
        """The message; of a very long one, the beginning and the end, which says what to do."""
        text = super().__str__()
        if len(text) <= MOST_CHARS:
            return text
        return f"{text[: MOST_CHARS // 2]} [...] {text[-MOST_CHARS // 4 :]}"


class ConfigError(HardmilError, ValueError):
    """A study, an arm or a setting that cannot be used as written."""


class TableError(HardmilError, ValueError):
    """A table of slides or splits with missing or invalid content."""


class SlideError(HardmilError, OSError):
    """A slide that cannot be opened or read, or that has no tissue."""


class BagError(HardmilError, ValueError):
    """A bag whose instances are invalid, or do not fit the model or the other bags."""


class EmptyBagError(BagError):
    """A bag without instances."""


class FeatureFileError(BagError):
    """A feature file that is damaged or in an unknown layout."""


class TrainingError(HardmilError, RuntimeError):
    """A training run that cannot continue: the device does not exist, or the loss is not finite."""


class BundleError(HardmilError, ValueError):
    """A trained model's folder that is incomplete, or was made for other data."""


class FoldError(HardmilError, ValueError):
    """Folds that cannot be drawn, or that leak."""


class JobError(HardmilError, RuntimeError):
    """Some items of a batch failed; the table of failures has been printed."""


class BusyError(HardmilError, RuntimeError):
    """A file that another run is working on."""


class StoreError(HardmilError, OSError):
    """A folder that cannot be written to: the disk is full, or permission is missing."""
