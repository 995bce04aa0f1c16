"""--engine, --workers and --address of evaluate and reproduce."""

import json
from pathlib import Path

import pytest
from tests.support.studies import Hardmil, quick, read_csv


def _results(folder: Path) -> list[dict[str, str]]:
    rows = read_csv(folder / "results.csv")
    return [{name: text for name, text in row.items() if name != "seconds"} for row in rows]


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


@pytest.mark.slow
def test_two_workers_write_what_one_writes(hardmil: Hardmil, feature_study: Path):
    for name, workers in (("one", 1), ("two", 2)):
        run = hardmil("evaluate", feature_study, "--name", name, "--workers", workers, "--json", *quick())
        assert run.code == 0, run.err
        assert json.loads(run.out.splitlines()[-1])["failures"] == {}
    assert _results(feature_study / "runs" / "two") == _results(feature_study / "runs" / "one")


def test_where_every_trial_fails_the_first_is_named(hardmil: Hardmil, feature_study: Path):
    run = hardmil("evaluate", feature_study, *quick("training.lr=1e30"))
    assert run.code == 1
    assert "none of 9 trials could be done; first: abmil, repeat 1 fold 1:" in run.err
    assert "Traceback" in (feature_study / "runs" / "main" / "failures.log").read_text()
