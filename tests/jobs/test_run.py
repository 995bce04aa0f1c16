import errno
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.waiting import wait_until

from hardmil.errors import SlideError, StoreError
from hardmil.jobs.failures import Failure, print_failures, write_failures
from hardmil.jobs.progress import Steps, progress, progress_line, rate
from hardmil.jobs.run import read_ahead, run_jobs


def _half(number: int) -> float:
    if number == 2:
        raise SlideError("slide 2: no tissue found")
    if number == 3:
        raise ZeroDivisionError("a bug")
    return number / 2


def test_failures_are_collected_and_the_other_items_go_on():
    done = run_jobs(_half, [4, 2, 3, 8], name=str, label="halving", quiet=True)
    assert done.results == {"4": 2.0, "8": 4.0}
    assert list(done.results) == ["4", "8"]
    assert [(f.name, f.message) for f in done.failures] == [
        ("2", "slide 2: no tissue found"),
        ("3", "ZeroDivisionError: a bug"),
    ]
    assert "in _half" in done.failures[1].traceback


def test_calls_do_not_share_results():
    assert run_jobs(_half, [4], name=str, label="a").results == {"4": 2.0}
    assert run_jobs(_half, [8], name=str, label="a").results == {"8": 4.0}


@pytest.mark.parametrize(
    "error", [StoreError("a.h5: the disk is full"), OSError(errno.ENOSPC, "No space left")]
)
def test_full_disk_stops_the_batch(error: Exception):
    seen: list[int] = []

    def work(number: int) -> None:
        seen.append(number)
        if number == 1:
            raise error

    with pytest.raises(StoreError, match=r"(?s)(disk is full|No space).*at 1, 4 of 5 not done"):
        run_jobs(work, range(5), name=str, label="encoding")
    assert seen == [0, 1]


def test_keyboard_interrupt_is_not_caught():
    def work(number: int) -> None:
        raise KeyboardInterrupt(f"at {number}")

    with pytest.raises(KeyboardInterrupt, match="at 1"):
        run_jobs(work, [1, 2], name=str, label="encoding")


def test_failures_go_to_stderr_with_each_cause_once(capsys: pytest.CaptureFixture[str]):
    failures = [Failure("s[1]", "slide s[1]: [bold]no tissue[/bold]", "...")]
    failures += [Failure(f"TCGA-{i}", f"slide TCGA-{i}: the disk was removed", "...") for i in range(5)]
    print_failures(failures, log=Path("runs/failures.log"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "6 failed",
        "  s[1]: [bold]no tissue[/bold]",
        "  TCGA-0, TCGA-1, TCGA-2 and 2 more: the disk was removed",
        "tracebacks: runs/failures.log",
    ]
    print_failures([])
    assert capsys.readouterr() == ("", "")


def test_files_of_failures_are_written_and_removed(tmp_path: Path):
    done = run_jobs(_half, [2, 3], name=str, label="halving")
    log = write_failures(tmp_path, done.failures)
    assert log == tmp_path / "failures.log"
    assert "ZeroDivisionError: a bug" in log.read_text()
    lines = (tmp_path / "failures.csv").read_text().splitlines()
    assert lines == ["name,message", "2,slide 2: no tissue found", "3,ZeroDivisionError: a bug"]
    assert write_failures(tmp_path, []) is None
    assert list(tmp_path.iterdir()) == []


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bar_on_a_terminal_counts(monkeypatch: pytest.MonkeyPatch):
    terminal = _Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", terminal)
    with progress("base training", total=3) as step:
        for _ in range(3):
            step()
    assert "base training" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()


def test_a_bar_ends_full_where_steps_were_not_needed(monkeypatch: pytest.MonkeyPatch):
    terminal = _Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", terminal)
    with progress("two trials", total=8) as steps:
        steps()
        steps.reach(4)
        steps.label = "second trial"
        steps()
    assert "second trial" in terminal.getvalue()
    assert "8/8" in terminal.getvalue()


def test_without_a_terminal_a_line_is_logged_while_a_step_takes_long(monkeypatch: pytest.MonkeyPatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr("hardmil.jobs.progress.LINE_EVERY_S", 0.01)
    expected = "training: 1 of 4 after 1 min, about 1 min left\n"
    with progress("training", total=4) as step:
        step()
        wait_until(lambda: expected in stream.getvalue())
    assert expected in stream.getvalue()


@pytest.mark.parametrize(
    ("n_done", "seconds", "line"),
    [
        (0, 600.0, "encoding: 0 of 8 after 10 min"),
        (2, 600.0, "encoding: 2 of 8 after 10 min, about 30 min left"),
        (1, 3600.0, "encoding: 1 of 8 after 1 h 0 min, about 7 h 0 min left"),
        (8, 90.0, "encoding: 8 of 8 after 2 min"),
    ],
)
def test_a_line_says_what_is_done_and_what_is_left(n_done: int, seconds: float, line: str):
    assert progress_line(Steps("encoding", 8, n_done), seconds=seconds) == line


@pytest.mark.parametrize("quiet", [True, False])
def test_no_bar_when_quiet_or_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quiet: bool
):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    stream = _Terminal() if quiet else io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with progress("base training", total=1, quiet=quiet) as step:
        step()
    assert stream.getvalue() == ""


def test_bar_is_removed_when_the_block_fails(monkeypatch: pytest.MonkeyPatch):
    terminal = _Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", terminal)
    with pytest.raises(ValueError, match="stop"), progress("a", total=2):
        raise ValueError("stop")
    assert terminal.getvalue().endswith(("\x1b[?25h", "\n"))  # the cursor is back


def test_item_beyond_the_limit_fails_and_the_other_items_go_on():
    never = threading.Event()

    def wait(name: str) -> str:
        if name == "slow":
            never.wait()
        if name == "broken":
            raise SlideError("slide broken: no tissue found")
        return name.upper()

    done = run_jobs(wait, ["a", "slow", "broken", "b"], name=str, label="waiting", limit_s=1.2, quiet=True)
    assert done.results == {"a": "A", "b": "B"}
    assert [failure.name for failure in done.failures] == ["slow", "broken"]
    assert "0.02 minutes" in done.failures[0].message
    assert "in wait" in done.failures[1].traceback
    never.set()


def test_full_disk_stops_the_batch_with_a_limit_too():
    def full(name: str) -> None:
        raise OSError(errno.ENOSPC, "No space left")

    with pytest.raises(StoreError, match="Stopped writing at a, 2 of 2 not done"):
        run_jobs(full, ["a", "b"], name=str, label="writing", limit_s=60.0, quiet=True)


@pytest.mark.parametrize(
    ("per_s", "text"),
    [(None, ""), (0.0, ""), (12.34, "12.3/s"), (1.0, "1.0/s"), (0.5, "30.0/min"), (0.01, "36.0/h")],
)
def test_rate_has_the_unit_that_gives_at_least_1(per_s: float | None, text: str):
    assert rate(per_s) == text


def test_read_ahead_keeps_the_order_and_the_depth():
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(6):
            made.append(number)
            yield number

    taken = read_ahead(numbers(), depth=2)
    assert next(taken) == 0
    wait_until(lambda: len(made) >= 3)
    assert made == [0, 1, 2]
    assert list(taken) == [1, 2, 3, 4, 5]


def test_read_ahead_raises_in_the_consumer_and_ends_its_thread():
    def numbers() -> Iterator[int]:
        yield 1
        raise ValueError("no second")

    taken = read_ahead(numbers(), depth=3)
    assert next(taken) == 1
    with pytest.raises(ValueError, match="no second"):
        next(taken)
    before = set(threading.enumerate())
    endless = read_ahead(iter(int, 1), depth=2)
    assert next(endless) == 0
    endless.close()
    assert set(threading.enumerate()) <= before
