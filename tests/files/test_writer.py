import os
import signal
import subprocess
import sys
from dataclasses import replace

from hardmil.files import writer
from hardmil.files.writer import this_process

HERE = this_process()


def test_this_process_runs():
    assert HERE.pid == os.getpid()
    assert HERE.is_here
    assert not HERE.is_gone


def test_a_process_that_was_killed_is_gone():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        started = replace(HERE, pid=child.pid, start="")
        assert not started.is_gone
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert started.is_gone


def test_a_later_process_with_the_same_number_is_another_one():
    if HERE.start:
        assert replace(HERE, start=str(int(HERE.start) + 1)).is_gone
    assert not replace(HERE, start="").is_gone, "unknown start: only the number counts"


def test_a_process_from_before_the_machine_started_is_gone():
    if HERE.boot:
        assert replace(HERE, boot="another").is_gone
    assert not replace(HERE, boot="").is_gone


def test_nothing_is_known_of_a_process_of_another_machine():
    there = replace(HERE, host="node-17", pid=2**22 - 1)
    assert (there.is_here, there.is_gone) == (False, False)


def test_impossible_numbers_do_not_stop_a_run():
    assert replace(HERE, pid=2**70, boot="").is_gone in (True, False)


def test_the_start_of_a_process_with_a_name_in_brackets():
    """The name stands in /proc/PID/stat, in brackets, and may contain both."""
    code = "import ctypes; ctypes.CDLL(None).prctl(15, b'a) b (c'); print(1, flush=True); input()"
    call = [sys.executable, "-c", code]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"1\n"
        if HERE.start:
            assert int(writer._start(child.pid)) >= int(HERE.start)
        child.kill()
