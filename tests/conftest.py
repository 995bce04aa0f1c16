import os
from pathlib import Path

# One thread a worker, set before torch is imported: threads of two processes on two cores fight.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings
from tests.support.reports import sample as sample
from tests.support.studies import feature_study as feature_study
from tests.support.studies import hardmil as hardmil
from tests.support.studies import study as study
from tests.support.trainings import n_fits as n_fits

from hardmil.phantom.slide import draw_phantom, write_phantom

# No deadline: the time of one example depends on the load of the machine.
settings.register_profile("hardmil", deadline=None)
settings.load_profile("hardmil")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data; a test that asks for it is skipped where there is none."""
    folder = os.environ.get("HARDMIL_DATA")
    if folder:
        return Path(folder)
    if os.environ.get("HARDMIL_REQUIRE_DATA") == "1":
        pytest.fail("HARDMIL_DATA is not set, and HARDMIL_REQUIRE_DATA=1 asks for the real data")
    pytest.skip("HARDMIL_DATA, the folder of real data, is not set")


@pytest.fixture(scope="session")
def phantom_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic slide with lesions and look-alikes: 960 x 700 px, two levels, 0.5 um/px."""
    path = tmp_path_factory.mktemp("phantom") / "phantom.tif"
    write_phantom(path, draw_phantom(7, lesion=True, look_alikes=True, width_px=960, height_px=700))
    return path
