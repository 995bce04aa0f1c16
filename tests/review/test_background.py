import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.waiting import PATIENCE_S, wait_until

from hardmil.errors import BusyError
from hardmil.review.background import BackgroundCommand

WAITS = "import threading; print('started', flush=True); threading.Event().wait()"


MODULE = "command_of_a_test"


@pytest.fixture(autouse=True)
def path_of_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))


def command(folder: Path, code: str) -> BackgroundCommand:
    (folder / f"{MODULE}.py").write_text(code)
    return BackgroundCommand(MODULE, arguments=["one argument"])


def test_a_command_from_start_to_end(tmp_path: Path):
    done = command(tmp_path, "import os, sys\nprint(sys.argv[1])\nprint()\nprint('nice', os.nice(0))")
    assert done.status.state == "not started"
    done.start()
    wait_until(lambda: done.status.state != "running" and len(done.status.lines) == 2)
    assert done.status.state == "done"
    assert done.status.lines[0] == "one argument"
    assert int(done.status.lines[1].split()[1]) == min(os.nice(0) + 10, 19)


def test_a_failure_keeps_its_last_lines(tmp_path: Path):
    failing = command(tmp_path, "raise SystemExit('hardmil: no verdicts')")
    failing.start()
    wait_until(lambda: failing.status.state != "running" and failing.status.lines)
    assert failing.status.state == "failed"
    assert failing.status.lines == ("hardmil: no verdicts",)


def test_it_runs_once_at_a_time_and_can_be_stopped(tmp_path: Path):
    waiting = command(tmp_path, WAITS)
    waiting.start()
    with pytest.raises(BusyError, match="already running"):
        waiting.start()
    wait_until(lambda: waiting.status.lines)
    waiting.stop()
    assert waiting.status.state == "stopped"
    waiting.stop()
    waiting.start()
    assert waiting.status.state == "running"
    waiting.stop()


def test_it_ends_when_the_server_is_killed(tmp_path: Path):
    (tmp_path / f"{MODULE}.py").write_text("import os; print(os.getpid(), flush=True)\n" + WAITS)
    server = (
        "from hardmil.review.background import BackgroundCommand\n"
        "import sys, threading, time\n"
        "one = BackgroundCommand(sys.argv[1], arguments=()); one.start()\n"
        "while not one.status.lines: time.sleep(0.02)\n"
        "print(one.status.lines[0], flush=True); threading.Event().wait()\n"
    )
    arguments = [sys.executable, "-c", server, MODULE]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)
    wait_until(lambda: not is_running(pid), what="the command to end")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # An orphan that nobody has waited for yet is over too.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
