import json
from pathlib import Path

import pytest
from tests.support.reviews import SIZE, write_reviewed_study
from tests.support.studies import Hardmil

from hardmil.mining.verdict_store import VerdictStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_reviewed_study(tmp_path / "study").folder


def _table(folder: Path, *, n: int) -> Path:
    """The truth on the first patch of the first n slides, which is a lesion on positive ones."""
    lines = [f"s{i},0,0,{'lesion' if i // 2 % 2 else 'normal'}" for i in range(n)]
    path = folder / "judged elsewhere.csv"
    path.write_text("\n".join(["slide_id,x,y,verdict", *lines, "s99,0,0,lesion"]) + "\n", encoding="utf-8")
    return path


def test_verdicts_come_in_train_and_go_out(hardmil: Hardmil, folder: Path):
    table, out = _table(folder, n=16), folder / "out"
    options = ["--import", table, "--reviewer", "jo", "--retrain", "--export", out, "--quiet"]
    run = hardmil("review", folder, *options)
    assert run.code == 0, run.err
    assert "judged elsewhere.csv: 16 verdicts added" in run.out
    assert "not matched: 1 on slides that the study does not have, such as s99" in run.out
    assert "review: verdicts on 16 patches used: 8 lesion, 8 normal, 0 artefact" in run.out
    assert "round 1: ours+instance+verdicts beside ours+instance, with verdicts on 16 patches" in run.out
    assert "16 verdicts: " in run.out
    assert len(list(out.glob("*.geojson"))) == 16
    with VerdictStore(folder / "review.sqlite") as store:
        assert {(one.reviewer, one.patch.size) for one in store.standing()} == {("jo", SIZE)}

    run = hardmil("review", folder, "--import", _table(folder, n=24), "--retrain", "--quiet", "--json")
    assert run.code == 0, run.err
    found = json.loads(run.out)
    assert (found["round"]["number"], found["round"]["n_verdicts"]) == (2, 24)
    assert "round 1, 16 patches: FPR" in run.err


def test_training_without_verdicts_says_what_to_do(hardmil: Hardmil, folder: Path):
    run = hardmil("review", folder, "--retrain", "--quiet")
    assert run.code == 1
    assert "no verdict on any patch" in run.err
    assert f"judge patches first: hardmil review {folder}" in run.err
