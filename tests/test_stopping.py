import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.support.studies import SUFFIXES
from tests.support.waiting import PATIENCE_S, wait_until

from hardmil.files.atomic import write_atomically
from hardmil.files.locks import locked
from hardmil.stopping import ended_by_signals, how_far, told_at_stop, undo_all, undone_at_stop

# What the main thread is busy with; Python's own way to handle Ctrl-C hangs, is lost or takes long in most.
BUSY = {
    "sleep": "time.sleep(1000)",
    "lock": "threading.Lock().acquire() and threading.Event().wait()",
    "pool": "with ThreadPoolExecutor(1) as pool:\n    pool.submit(time.sleep, 1000)",
    "weakref": """
        class Thing: pass
        while True:
            thing = Thing()
            kept = weakref.ref(thing, lambda _: time.sleep(0.01))
            del thing
    """,
    "swallowed": """
        while True:
            try:
                time.sleep(1000)
            except BaseException:
                pass
    """,
    "computing": """
        import numpy as np
        a = np.ones((1500, 1500))
        while True:
            a = a @ a / 1500
    """,
}
PROGRAM = """
import sys, threading, time, weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from hardmil.files.atomic import write_atomically
from hardmil.files.locks import locked
from hardmil.stopping import ended_by_signals, told_at_stop
folder = Path(sys.argv[1])
with ended_by_signals(lambda text: print("ended at", text, file=sys.stderr)):
    path = folder / "a.h5"
    with locked(path), write_atomically(path) as draft, told_at_stop(lambda: "18 of 40"):
        draft.write_text("half")
        print("ready", flush=True)
{busy}
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("busy", BUSY)
def test_a_signal_ends_a_process_whatever_it_waits_for(tmp_path: Path, busy: str, number: signal.Signals):
    body = textwrap.indent(textwrap.dedent(BUSY[busy]).strip(), " " * 8)
    call = [sys.executable, "-c", PROGRAM.format(busy=body), str(tmp_path)]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        assert len(list(tmp_path.iterdir())) == 2, "a draft and a lock"
        process.send_signal(number)
        assert process.wait(timeout=PATIENCE_S) == 128 + number
        assert process.stderr.read() == "ended at 18 of 40\n"
    assert list(tmp_path.iterdir()) == []


def test_what_is_undone_and_in_which_order():
    done: list[str] = []

    def fails() -> None:
        done.append("fails")
        raise OSError("the disk is gone")

    with undone_at_stop(lambda: done.append("first")), undone_at_stop(fails):
        with undone_at_stop(lambda: done.append("over")):
            pass
        undo_all()
        undo_all()
    assert done == ["fails", "first"]


def test_the_innermost_progress_is_told():
    assert how_far() == ""
    with told_at_stop(lambda: "outer"):
        with told_at_stop(lambda: "inner"):
            assert how_far() == "inner"
        assert how_far() == "outer"


def test_handlers_are_those_from_before_after_the_block(tmp_path: Path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with ended_by_signals():
        assert signal.getsignal(signal.SIGINT) not in before
        with locked(tmp_path / "a"), write_atomically(tmp_path / "a") as draft:
            draft.touch()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    undo_all()
    assert (tmp_path / "a").exists(), "what is complete is not undone"


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("command", ["patch", "encode"])
def test_ctrl_c_leaves_finished_slides_and_nothing_else(study: Path, command: str, workers: int):
    slides = {path for suffix in SUFFIXES for path in (study / "slides").glob(f"*{suffix}")}
    folder = study / {"patch": "patches", "encode": "features_pixels"}[command]
    call = [sys.executable, "-c", SLOW, command, str(study), "--workers", str(workers), "--json"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: len(list(folder.glob("0*.h5"))) >= 2 or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    n_done = len(list(folder.glob("0*.h5")))
    assert process.returncode == 130
    assert 2 <= n_done < len(slides)
    said = json.loads(out)["error"]
    assert said.endswith("of 8; run the same command to continue")
    assert err == f"hardmil: {said}\n"
    wait_until(lambda: not list(study.rglob(".*.lock")))
    assert [path for path in study.rglob(".*") if path.name != ".gitignore"] == []
    again = subprocess.run([sys.executable, "-m", "hardmil", *call[3:]], capture_output=True, text=True)
    assert json.loads(again.stdout)["slides"] == len(slides)


# Slides take so long that the signal comes before the last one.
SLOW = """
import sys, time
from pathlib import Path
from hardmil.files import atomic
from hardmil.cli import main
plain = atomic.os.replace
def slow(source, target):
    if str(target).endswith(".h5"):
        time.sleep(1.0)
    plain(source, target)
atomic.os.replace = slow
sys.argv = ["hardmil", *sys.argv[1:]]
main()
"""
