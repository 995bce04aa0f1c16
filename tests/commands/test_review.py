import json
from pathlib import Path

import pytest
from tests.support.reviews import SIZE, write_reviewed_study
from tests.support.studies import Hardmil, read_csv

from hardmil.mining.verdict_store import JudgedPatch, NewVerdict, VerdictStore


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


SETTINGS = ["--set", "mining.verdicts=review", "--quiet"]


def test_train_and_mine_use_the_verdicts_and_say_so(hardmil: Hardmil, folder: Path):
    hardmil("review", folder, "--import", _table(folder, n=24))
    run = hardmil("train", folder, "--set", "arm=ours+instance+verdicts", *SETTINGS)
    assert run.code == 0, run.err
    assert "review: verdicts on 24 patches used: 12 lesion, 12 normal, 0 artefact" in run.out
    assert "trained ours+instance+verdicts on 24 slides" in run.out
    again = hardmil("train", folder, "--set", "arm=ours+instance+verdicts", *SETTINGS)
    assert "was already trained with these settings" in again.out

    run = hardmil("mine", folder, *SETTINGS)
    assert run.code == 0, run.err
    mined = read_csv(folder / "mined" / "hard_negatives.csv")
    assert len(mined) > 1
    first = mined[0]
    with VerdictStore(folder / "review.sqlite") as store:
        patch = JudgedPatch(first["slide_id"], int(first["x"]), int(first["y"]), SIZE)
        store.add([NewVerdict("jo", patch, "artefact", "slide")])
    run = hardmil("mine", folder, *SETTINGS)
    assert "review: not hard negatives by their verdicts, left out: 1 artefact" in run.out
    key = ("slide_id", "x", "y")
    left = [[row[name] for name in key] for row in read_csv(folder / "mined" / "hard_negatives.csv")]
    assert left == [[row[name] for name in key] for row in mined[1:]]


def test_evaluate_lists_slides_in_doubt_and_leaves_them_out_on_request(hardmil: Hardmil, folder: Path):
    with VerdictStore(folder / "review.sqlite") as store:
        store.remark(reviewer="jo", slide_id="s2", remark="label wrong", comment="all normal")
        store.add([NewVerdict("al", JudgedPatch("s0", 0, 0, SIZE), "lesion", "slide")])
    arms = ["--set", "evaluation.arms=[ours]", "--quiet"]
    run = hardmil("evaluate", folder, *arms)
    assert run.code == 0, run.err
    assert "review: 2 slides in doubt, used as they are; mining.leave_out_doubted: true" in run.out
    assert "  s2: label wrong (jo): all normal" in run.out
    assert "  s0: lesion in a negative slide (al): 1 patch" in run.out
    assert len(read_csv(folder / "runs" / "main" / "predictions.csv")) == 24
    run = hardmil("evaluate", folder, "--name", "sure", *arms, "--set", "mining.leave_out_doubted=true")
    assert run.code == 0, run.err
    assert "review: 2 slides in doubt, left out:" in run.out
    slides = {row["slide_id"] for row in read_csv(folder / "runs" / "sure" / "predictions.csv")}
    assert slides == {f"s{i}" for i in range(24)} - {"s0", "s2"}
    page = (folder / "runs" / "sure" / "report.html").read_text(encoding="utf-8")
    assert "a reviewer doubts its label or quality" in page
