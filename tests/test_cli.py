from pathlib import Path

import pytest
from tests.support.studies import Hardmil


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--engine", "dask"), "--engine dask: unknown engine; expected local or ray"),
        (("--workers", "0"), "--workers 0: expected 1 or more"),
        (("--address", "head:6379"), "--address head:6379: only Ray"),
    ],
)
def test_engines_that_are_not(hardmil: Hardmil, tmp_path: Path, options: tuple[str, ...], message: str):
    for call in (("evaluate", tmp_path), ("reproduce", "colon", "--data", tmp_path)):
        run = hardmil(*call, *options)
        assert run.code == 1
        assert message in run.err


def test_version(hardmil: Hardmil) -> None:
    assert hardmil("--version").out.startswith("hardmil 0.")
