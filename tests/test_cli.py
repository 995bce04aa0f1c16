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
