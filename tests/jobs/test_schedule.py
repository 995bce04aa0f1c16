import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.waiting import wait_until
from tests.support.workers import TWO_WORKERS, Desk, run_on_workers

from hardmil.errors import ConfigError, FoldError, StoreError
from hardmil.jobs.pool import Engine
from hardmil.jobs.schedule import run_groups

pytestmark = pytest.mark.slow


def test_items_run_in_workers_and_results_are_kept_in_this_process(tmp_path: Path):
    desk = Desk(tmp_path)
    kept, failures = run_on_workers(desk, ["a", "b", "c"], ["d"], [])
    assert failures == []
    assert kept == {item: (item.upper(), os.getpid()) for item in "abcd"}
    pids = desk.notes("pids")
    assert len(pids) == 4
    assert str(os.getpid()) not in pids
    arrivals = desk.notes("arrivals")
    assert len(arrivals) == len(set(arrivals)) <= 2, "shared data is sent once to each worker"


def test_the_first_of_a_group_runs_alone(tmp_path: Path):
    desk = Desk(tmp_path)
    # The first item ends only after an item of the other group has begun.
    run_on_workers(desk, ["after-d", "a", "b"], ["c", "d"])
    ended = float(desk.notes("after-d.end")[0])
    assert all(float(desk.notes(f"{one}.begin")[0]) >= ended for one in "ab")


def test_if_the_first_item_fails_the_next_one_runs_alone(tmp_path: Path):
    desk = Desk(tmp_path)
    kept, failures = run_on_workers(desk, ["fail", "slow", "b"])
    assert sorted(kept) == ["b", "slow"]
    assert [(one.name, one.message) for one in failures] == [("fail", "ZeroDivisionError: a bug")]
    assert "in work" in failures[0].traceback
    assert float(desk.notes("b.begin")[0]) >= float(desk.notes("slow.end")[0])


def test_an_item_whose_worker_is_killed_is_run_again(tmp_path: Path):
    desk = Desk(tmp_path)
    kept, failures = run_on_workers(desk, ["once", "a"], ["once-more", "b"])
    assert failures == []
    assert sorted(kept) == ["a", "b", "once", "once-more"]
    assert len(desk.notes("once.begin")) == len(desk.notes("once-more.begin")) == 2
    assert len(set(desk.notes("pids"))) >= 3


@pytest.mark.parametrize(("item", "how"), [("always", "killed by SIGKILL"), ("exit", "exit code 7")])
def test_an_item_that_always_kills_its_worker_is_a_failure(item: str, how: str, tmp_path: Path):
    desk = Desk(tmp_path)
    kept, failures = run_on_workers(desk, [item, "a"], ["b"])
    assert sorted(kept) == ["a", "b"]
    assert [one.name for one in failures] == [item]
    assert failures[0].message.startswith(f"{item}: its worker died 3 times, the last time {how}")
    assert failures[0].message in failures[0].traceback
    assert len(desk.notes(f"{item}.begin")) == 3


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [("leak", FoldError, "fold 3: leaks"), ("full", StoreError, "No space left on device")],
)
def test_an_error_that_concerns_all_ends_the_run_and_its_workers(
    item: str, error: type[Exception], message: str, tmp_path: Path
):
    desk = Desk(tmp_path)
    with pytest.raises(error, match=message):
        run_on_workers(desk, ["sleep"], ["a", item])
    assert desk.notes("sleep.end") == []
    for pid in desk.notes("pids"):
        with pytest.raises(ProcessLookupError, match="No such process"):
            os.kill(int(pid), 0)


PARENT = """
import sys
from pathlib import Path
from tests.support.waiting import wait_until
from tests.support.workers import Desk, run_on_workers

if __name__ == "__main__":
    run_on_workers(Desk(Path(sys.argv[1])), ["sleep"])
"""


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_exit_in_the_middle_of_an_item_when_their_parent_is_killed(tmp_path: Path):
    desk, script = Desk(tmp_path), tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), *filter(None, sys.path)])}
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=environment)
    wait_until(lambda: len(desk.notes("pids")) == 1)
    parent.kill()
    assert parent.wait() == -signal.SIGKILL
    (worker,) = desk.notes("pids")
    wait_until(lambda: not _is_running(worker))
    assert desk.notes("sleep.end") == []


def _threads(shared: None, item: str) -> str:
    return os.environ.get("OMP_NUM_THREADS", "") + os.environ.get("MKL_NUM_THREADS", "")


def test_a_worker_has_its_share_of_threads_before_anything_is_imported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("MKL_NUM_THREADS", "5")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(7)), raising=False)
    found: list[str] = []
    run_groups(
        _threads,
        [["a"]],
        shared=None,
        engine=TWO_WORKERS,
        name=str,
        keep=lambda item, result: found.append(result),
        label="items",
        quiet=True,
    )
    assert found == ["33"]
    assert "OMP_NUM_THREADS" not in os.environ
    assert os.environ["MKL_NUM_THREADS"] == "5"


def test_ray_handles_deaths_failures_and_stops_as_processes_do(tmp_path: Path):
    desk = Desk(tmp_path)
    ray = Engine("ray", workers=2)
    kept, failures = run_on_workers(desk, ["once", "a"], ["fail", "b"], ["always"], engine=ray)
    assert sorted(kept) == ["a", "b", "once"]
    assert {one.name for one in failures} == {"fail", "always"}
    messages = {one.name: one.message for one in failures}
    assert messages["fail"] == "ZeroDivisionError: a bug"
    assert messages["always"].startswith("always: its worker died 3 times, the last time WorkerCrashedError")
    assert len(desk.notes("always.begin")) == 3
    assert float(desk.notes("a.begin")[0]) >= float(desk.notes("once.end")[0])
    assert str(os.getpid()) not in desk.notes("pids")
    with pytest.raises(FoldError, match="fold 3: leaks"):
        run_on_workers(desk, ["sleep"], ["leak"], engine=ray)


def test_address_without_ray_is_refused():
    with pytest.raises(ConfigError, match=r"--address 127.0.0.1:9: Ray does not answer.*ray start --head"):
        run_groups(
            _threads,
            [["a"]],
            shared=None,
            engine=Engine("ray", address="127.0.0.1:9"),
            name=str,
            keep=lambda item, result: None,
            label="items",
            quiet=True,
        )
