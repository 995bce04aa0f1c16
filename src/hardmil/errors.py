"""What can go wrong, in the user's words.

Every message says which slide, bag or file it is about, what was found, what was expected, and what to do.
The command line catches `HardmilError` alone; anything else is a bug and keeps its traceback.
"""


class HardmilError(Exception):
    """Any error a user can mend."""


class ConfigError(HardmilError, ValueError):
    """A study, an arm or a knob that cannot be run as written."""


class TableError(HardmilError, ValueError):
    """A table of slides or splits that does not hold what it must."""


class SlideError(HardmilError, OSError):
    """A slide that cannot be opened or read, or that has no tissue."""


class BagError(HardmilError, ValueError):
    """A bag whose instances do not fit what is done with them."""


class EmptyBagError(BagError):
    """A bag without a single instance."""


class FeatureFileError(BagError):
    """A feature file that is damaged or in no layout we know."""


class TrainingError(HardmilError, RuntimeError):
    """A training run that cannot go on: no such device, or a loss that is no number."""


class BundleError(HardmilError, ValueError):
    """A trained model's folder that is missing something or was made for something else."""


class FoldError(HardmilError, ValueError):
    """Folds that cannot be drawn, or that leak."""


class JobError(HardmilError, RuntimeError):
    """Some items of a batch failed; the table of failures was printed before."""


class BusyError(HardmilError, RuntimeError):
    """A file that another run is making at this moment."""


class StoreError(HardmilError, OSError):
    """A folder that takes no more files: the disk is full, or it may not be written."""
