import os
import sys

import pytest

from hardmil.errors import ConfigError
from hardmil.jobs.pool import Engine, find_engine
from hardmil.jobs.schedule import run_groups


def test_engines_by_name():
    assert find_engine() == Engine("local", 1, None)
    assert find_engine().is_here
    assert not find_engine(workers=2).is_here
    ray = find_engine("ray", address="head:6379")
    assert ray == Engine("ray", 1, "head:6379")
    assert not ray.is_here


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"kind": "dask"}, r"--engine dask: .* local or ray"),
        ({"workers": 0}, "--workers 0: expected 1 or more"),
        ({"address": "head:6379"}, r"--address head:6379: .* --engine ray"),
    ],
)
def test_unknown_engines_are_refused(asked: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        find_engine(**asked)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("workers", "asked", "threads"),
    [(1, "", 6), (2, "", 3), (4, "", 1), (9, "", 1), (2, "2", 2), (2, "8", 3), (2, "4,2", 3), (2, "0", 3)],
)
def test_threads_are_divided_between_workers(
    workers: int, asked: str, threads: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert Engine(workers=workers).threads == threads


def test_missing_ray_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        ConfigError, match=r"Ray is not installed; install it with pip install 'hardmil\[ray\]'"
    ):
        run_groups(
            max, [["a"]], shared="", engine=Engine("ray"), name=str, keep=print, label="items", quiet=True
        )
