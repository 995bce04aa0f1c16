"""Other processes that tests start: an evaluation of its own, and the head of a Ray cluster."""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import PATIENCE_S, wait_until

# Arguments: folder, address of Ray or nothing, a word if a worker is to die or nothing.
STUDY = """
import sys
from pathlib import Path
from hardmil.evaluation import evaluation
from hardmil.jobs.pool import Engine
from tests.support.evaluations import CPU, TWO_WORKERS, dies_once, evaluation_of_six_arms

if __name__ == "__main__":
    folder, address, dying = sys.argv[1:]
    engine = Engine("ray", address=address) if address else TWO_WORKERS
    if dying:
        evaluation.run_in_context = dies_once
    study = evaluation_of_six_arms(Path(folder))
    assert evaluation.evaluate_arms(study, device=CPU, engine=engine, quiet=True) == []
"""


DIES_AT_A_RENAME = """
import os, signal, sys
from pathlib import Path
folder, left, replace = Path(sys.argv[1]), int(sys.argv[2]), os.replace
def counted(source, target):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = counted
"""
"""The beginning of a program that dies, as if it was killed, just before a file takes its name.

Arguments: its folder, and the number of the rename.
"""


def start_evaluation(folder: Path, *, address: str = "", dying: str = "") -> subprocess.Popen[bytes]:
    """The evaluation of six arms in a process of its own."""
    script = folder / "run.py"
    script.write_text(STUDY)
    # The script's own folder is on its path; it and its workers find the tests by the path of this process.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), *filter(None, sys.path)])}
    return subprocess.Popen([sys.executable, str(script), str(folder), address, dying], env=environment)


def children_of(pid: int) -> list[int]:
    """The processes that a process started and that still run."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def ray_of_two_workers() -> Iterator[str]:
    """The address of a Ray of two workers, started as a lab would.

    The token is that of `RAY_AUTH_TOKEN`.
    """
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    # Short: the path of a socket may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        options = ["--head", "--block", "--num-cpus=2", f"--port={port}", f"--temp-dir={folder}"]
        options += ["--include-dashboard=false", "--disable-usage-stats"]
        log = Path(folder) / "head.log"
        with log.open("w") as file:
            command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options]
            head = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            wait_until(
                lambda: "Ray runtime started" in log.read_text() or head.poll() is not None, what="Ray"
            )
            assert head.poll() is None, log.read_text()
            yield f"127.0.0.1:{port}"
        finally:
            head.terminate()
            head.wait(PATIENCE_S)


def new_ray_token() -> dict[str, str]:
    """Environment variables of a Ray that only its own processes can use."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
