import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.studies import Hardmil


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--engine", "dask"), "--engine dask"),
        (("--workers", "0"), "--workers 0"),
        (("--address", "head:6379"), "--address head:6379"),
    ],
)
def test_engines_that_do_not_exist(hardmil: Hardmil, tmp_path: Path, options: tuple[str, ...], message: str):
    for call in (("evaluate", tmp_path), ("reproduce", "colon", "--data", tmp_path)):
        run = hardmil(*call, *options)
        assert run.code == 1
        assert message in run.err


def test_version(hardmil: Hardmil) -> None:
    assert hardmil("--version").out.startswith("hardmil 0.")


def test_the_package_runs_as_a_command():
    call = [sys.executable, "-m", "hardmil", "--version"]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("hardmil 0.")
