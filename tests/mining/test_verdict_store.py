import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from hardmil.errors import StoreError
from hardmil.mining import verdict_store
from hardmil.mining.verdict_store import JudgedPatch, NewVerdict, Source, Verdict, VerdictStore

PATCH, OTHER = JudgedPatch("s1", 512, 0, 256), JudgedPatch("s2", 0, 256, 256)
WRITER = """
import sys
from pathlib import Path
from hardmil.mining.verdict_store import JudgedPatch, NewVerdict, VerdictStore
path, reviewer, n = sys.argv[1:]
with VerdictStore(Path(path)) as store:
    for i in range(int(n)):
        patch = JudgedPatch("s1", 256 * i, 0, 256)
        print(*store.add([NewVerdict(reviewer, patch, "normal", "queue")]), flush=True)
"""


def _new(
    verdict: Verdict = "normal",
    *,
    patch: JudgedPatch = PATCH,
    reviewer: str = "jo",
    source: Source = "queue",
) -> NewVerdict:
    return NewVerdict(reviewer, patch, verdict, source)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VerdictStore]:
    with VerdictStore(tmp_path / "review.sqlite") as opened:
        yield opened


def _standing(store: VerdictStore) -> list[tuple[str, str, str]]:
    return [(one.reviewer, one.patch.slide_id, one.verdict) for one in store.standing()]


def test_what_was_added_is_there_in_order_and_after_opening_again(store: VerdictStore):
    first = NewVerdict("jo", PATCH, "lesion", "random", seconds=1.5, revealed=True)
    assert store.add([first, _new(patch=OTHER)]) == [1, 2]
    assert store.add([NewVerdict("al", PATCH, "unsure", "csv", at="2026-01-02T03:04:05+00:00")]) == [3]
    with VerdictStore(store.path) as again:
        one, two, three = again.verdicts()
        assert again.verdicts() == store.verdicts()
    assert (one.reviewer, one.patch, one.verdict, one.source) == ("jo", PATCH, "lesion", "random")
    assert (one.seconds, one.revealed, one.action, one.withdraws) == (1.5, True, 1, None)
    assert (two.patch, two.seconds, two.revealed, two.action) == (OTHER, None, False, 1)
    assert (three.at, three.action) == ("2026-01-02T03:04:05+00:00", 3)
    assert one.at == two.at > "2026"
    assert one.at.endswith("+00:00")


def test_a_change_of_mind_is_a_new_row_and_undo_brings_the_earlier_one_back(store: VerdictStore):
    store.add([_new("normal")])
    store.add([_new("lesion")])
    store.add([_new("artefact", reviewer="al")])
    assert _standing(store) == [("jo", "s1", "lesion"), ("al", "s1", "artefact")]
    undone = store.undo("jo")
    assert undone is not None
    assert undone.verdict == "lesion"
    assert _standing(store) == [("jo", "s1", "normal"), ("al", "s1", "artefact")]
    store.undo("jo")
    assert _standing(store) == [("al", "s1", "artefact")]
    assert store.undo("jo") is None
    assert [one.verdict for one in store.verdicts()] == [
        *("normal", "lesion", "artefact"),
        *("withdrawn", "withdrawn"),
    ]


def test_undo_withdraws_a_whole_cluster_at_once(store: VerdictStore):
    store.add([_new("lesion")])
    store.add([_new(source="cluster"), _new(patch=OTHER, source="cluster")])
    undone = store.undo("jo")
    assert undone is not None
    assert undone.patch == PATCH
    assert _standing(store) == [("jo", "s1", "lesion")]
    store.add([_new("unsure", patch=OTHER)])
    assert _standing(store) == [("jo", "s1", "lesion"), ("jo", "s2", "unsure")]


def test_undo_leaves_imported_verdicts(store: VerdictStore):
    store.add([_new(source="csv")])
    store.add([_new(patch=OTHER, source="qupath")])
    assert store.undo("jo") is None
    assert len(store.standing()) == 2


def test_the_last_remark_on_a_slide_counts_and_fine_takes_it_back(store: VerdictStore):
    store.remark(reviewer="jo", slide_id="s1", remark="label wrong", comment="tumour at the edge")
    store.remark(reviewer="jo", slide_id="s2", remark="poor quality")
    store.remark(reviewer="al", slide_id="s1", remark="poor quality")
    store.remark(reviewer="jo", slide_id="s2", remark="fine")
    assert [one.remark for one in store.remarks()] == ["label wrong", *["poor quality"] * 2, "fine"]
    first, second = store.standing_remarks()
    assert (first.reviewer, first.slide_id, first.comment) == ("jo", "s1", "tumour at the edge")
    assert (second.reviewer, second.slide_id, second.remark) == ("al", "s1", "poor quality")


@pytest.mark.parametrize(
    "statement",
    ["UPDATE verdicts SET verdict = 'lesion'", "DELETE FROM verdicts", "DELETE FROM remarks"],
)
def test_rows_cannot_be_changed_or_removed(store: VerdictStore, statement: str):
    store.add([_new()])
    store.remark(reviewer="jo", slide_id="s1", remark="fine")
    connection = sqlite3.connect(store.path)
    with pytest.raises(sqlite3.IntegrityError, match="are only added"):
        connection.execute(statement)
    connection.close()
    assert len(store.standing()) == 1


@pytest.mark.parametrize("wrong", [_new(reviewer=""), _new(patch=JudgedPatch("s1", 0, 0, 0))])
def test_a_wrong_verdict_stores_nothing_of_its_action(store: VerdictStore, wrong: NewVerdict):
    with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint failed"):
        store.add([_new(), wrong])
    assert store.verdicts() == []
    assert store.add([_new()]) == [1]


def test_two_processes_write_at_once(store: VerdictStore):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(store.path), reviewer, "40"])
        for reviewer in ("jo", "al")
    ]
    assert [writer.wait(300) for writer in writers] == [0, 0]
    rows = store.verdicts()
    assert [one.number for one in rows] == list(range(1, 81))
    assert len(store.standing()) == 80
    assert len({one.action for one in rows}) == 80


def test_threads_share_a_store(store: VerdictStore):
    def judge(reviewer: str) -> None:
        for i in range(25):
            store.add([_new(patch=JudgedPatch("s1", i, 0, 256), reviewer=reviewer)])
            store.standing()

    threads = [Thread(target=judge, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.standing()) == 100


def test_what_was_reported_as_saved_survives_a_kill(store: VerdictStore):
    command = [sys.executable, "-c", WRITER, str(store.path), "jo", "100000"]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    lines = [writer.stdout.readline() for _ in range(30)]
    os.kill(writer.pid, signal.SIGKILL)
    # It may have stored more before it died; whatever it printed has to be there.
    lines += writer.stdout.readlines()
    saved = max(int(line) for line in lines if line.endswith("\n"))
    writer.wait(60)
    writer.stdout.close()
    numbers = [one.number for one in store.verdicts()]
    assert saved >= 30
    assert numbers[:saved] == list(range(1, saved + 1))
    assert store.add([_new()]) == [len(numbers) + 1]


def test_a_full_disk_is_said_and_keeps_what_was_saved(store: VerdictStore):
    saved = store.add([_new()])
    connection: sqlite3.Connection = store._connection  # pyright: ignore[reportPrivateUsage]
    (n_pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {n_pages}")
    with pytest.raises(StoreError, match=r"review\.sqlite: the disk is full, and this verdict was not saved"):
        store.add([_new(patch=JudgedPatch("s1", i, 0, 256)) for i in range(2000)])
    assert [one.number for one in store.verdicts()] == saved
    connection.execute("PRAGMA max_page_count = 1000000")
    assert store.add([_new("lesion")]) == [2]
    with VerdictStore(store.path) as again:
        assert _standing(again) == [("jo", "s1", "lesion")]


def test_a_writer_that_does_not_end_is_said(store: VerdictStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(verdict_store, "WAIT_S", 0.01)
    with VerdictStore(store.path) as impatient:
        other = sqlite3.connect(store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another process has been writing to it"):
            impatient.add([_new()])
        other.close()
        assert impatient.add([_new()]) == [1]


def test_damaged_files_are_named(tmp_path: Path):
    path = tmp_path / "review.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match=r"review\.sqlite: is damaged .*restore it from a backup"):
        VerdictStore(path)
    path.unlink()
    with VerdictStore(path) as store:
        store.add([_new(patch=JudgedPatch("s1", i, 0, 256)) for i in range(500)])
    content = bytearray(path.read_bytes())
    content[3 * 4096 : 5 * 4096] = bytes(2 * 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"review\.sqlite: is damaged"):
        VerdictStore(path)


def test_files_of_others_and_of_newer_versions_are_left_alone(tmp_path: Path):
    path = tmp_path / "review.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine (a INTEGER)")
    connection.close()
    with pytest.raises(StoreError, match=r"is a database of another program; .*move it away"):
        VerdictStore(path)
    path.unlink()
    VerdictStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 3")
    connection.close()
    with pytest.raises(StoreError, match=r"has format 3, written by a newer hardmil; .*update hardmil"):
        VerdictStore(path)


def test_a_folder_that_does_not_exist_is_said(tmp_path: Path):
    with pytest.raises(StoreError, match=r"cannot be opened for writing .*change their permissions"):
        VerdictStore(tmp_path / "missing" / "review.sqlite")


def _format(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA user_version").fetchone()[0]
    finally:
        connection.close()


def test_a_verdict_may_name_a_class_and_only_then_the_format_is_newer(store: VerdictStore):
    store.add([_new("lesion")])
    assert _format(store.path) == 1
    with VerdictStore(store.path) as other:
        store.add(
            [replace(_new("lesion"), class_name="lesion A"), replace(_new(patch=OTHER), class_name="benign")]
        )
        assert _format(store.path) == 2
        assert [one.verdict for one in other.verdicts()] == ["lesion", "lesion A", "benign"]
        other.add([_new("unsure", reviewer="al")])
    undone = store.undo("jo")
    assert undone is not None
    assert undone.verdict == "lesion A"
    assert _standing(store) == [("jo", "s1", "lesion"), ("al", "s1", "unsure")]
    with VerdictStore(store.path) as again:
        assert [one.verdict for one in again.standing()] == ["lesion", "unsure"]
    connection = sqlite3.connect(store.path)
    with pytest.raises(sqlite3.IntegrityError, match="are only added"):
        connection.execute("UPDATE verdicts SET class = 'x'")
    connection.close()
