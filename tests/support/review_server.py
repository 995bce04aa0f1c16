"""A review of small slides, as an application in this process and as a server in another one."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2
import numpy as np
import pytest
from starlette.testclient import TestClient
from tests.support.pyramids import write_rgb_pyramid
from tests.support.reviews import N_PATCHES, SIZE, write_reviewed_study
from tests.support.studies import read_csv, write_csv
from tests.support.waiting import PATIENCE_S

from hardmil.preprocessing.study_folder import open_study
from hardmil.report.evaluation_run import evaluate
from hardmil.review.app import create_app
from hardmil.review.background import BackgroundCommand
from hardmil.review.security import Access
from hardmil.review.workspace import Workspace, open_workspace

WIDTH, HEIGHT = 460, 350
"""Size of a slide: its patches, and a margin."""
MPP = 0.5
LOOPBACK_ONLY = Access()
ORIGIN = "http://127.0.0.1:8470"


def write_review_study(folder: Path) -> Path:
    """A study of features with slides to look at, evaluated."""
    study = write_reviewed_study(folder)
    (folder / "slides").mkdir()
    rows = read_csv(folder / "slides.csv")
    for number, row in enumerate(rows):
        path = folder / "slides" / f"{row['slide_id']}.tif"
        write_rgb_pyramid(path, _picture(number, is_positive=row["label"] == "tumour"), mpp=MPP)
        row["path"] = f"slides/{path.name}"
    write_csv(folder / "slides.csv", rows)
    evaluate(open_study(study.folder), quiet=True)
    return folder


@pytest.fixture(scope="session")
def evaluated_review(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that study; not to be written to."""
    return write_review_study(tmp_path_factory.mktemp("review") / "study")


@pytest.fixture
def review_folder(evaluated_review: Path, tmp_path: Path) -> Path:
    """A copy of the study, to write to."""
    return shutil.copytree(evaluated_review, tmp_path / "study")


def _picture(seed: int, *, is_positive: bool) -> np.ndarray:
    """Pink noise; dark dots in the first five patches of a positive slide."""
    rng = np.random.default_rng(seed)
    picture = rng.normal((225, 170, 205), 12, (HEIGHT, WIDTH, 3)).clip(0, 255).astype(np.uint8)
    for patch in range(N_PATCHES):
        x, y = patch % 6 * SIZE, patch // 6 * SIZE
        dark = is_positive and patch < 5
        for dx, dy in rng.integers(4, SIZE - 12, (9 if dark else 3, 2)).tolist():
            picture[y + dy : y + dy + 8, x + dx : x + dx + 8] = (70, 30, 110) if dark else (150, 90, 150)
    return picture


class Browser:
    """What a browser does: it keeps cookies, and sends the token of its page back.

    Args:
        app: The application; None for the server at `address`.
        name: The reviewer; None if the name was not asked yet.
        address: Of a server in another process.
        token: What the server asks for.
    """

    broken = (httpx2.TransportError,)
    """Errors if the server is gone."""

    def __init__(
        self, app: Any, *, name: str | None = "Dr A", address: str = "", token: str | None = None
    ) -> None:
        origin = address.rstrip("/") or ORIGIN
        self.client = self.raw(app) if app else httpx2.Client(base_url=origin, timeout=PATIENCE_S)
        if token is not None:
            assert self.get(f"/?token={token}").status_code == 303
        page = self.client.get("/reviewer").text
        self.headers = {
            "origin": origin,
            "x-csrf-token": _meta(page, "csrf"),
            "x-study": _meta(page, "study"),
        }
        if name is not None:
            assert self.post("/api/reviewer", {"name": name}).status_code == 200

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    @staticmethod
    def raw(app: Any) -> TestClient:
        """A browser that was never there."""
        return TestClient(app, base_url=ORIGIN, follow_redirects=False)

    def get(self, path: str, **rest: Any) -> Any:
        return self.client.get(path, **rest)

    def post(self, path: str, body: object = None, **changed: str | None) -> Any:
        """A write; `changed` headers replace those of the page, without the one that is None."""
        named = {name.replace("_", "-"): value for name, value in changed.items()}
        headers = {name: value for name, value in (self.headers | named).items() if value is not None}
        return self.client.post(path, json=body if body is not None else {}, headers=headers)

    def judge(self, slide: int, instance: int, verdict: str, **rest: object) -> Any:
        patch = {"slide": slide, "instance": instance, "verdict": verdict}
        return self.post("/api/verdicts", {"patches": [patch], "source": "queue", **rest})


def _meta(page: str, name: str) -> str:
    found = re.search(rf'<meta name="{name}" content="([^"]+)">', page)
    assert found, page
    return found[1]


@contextmanager
def review_app(folder: Path, *, access: Access = LOOPBACK_ONLY) -> Iterator[tuple[Any, Workspace]]:
    """The application on a study, and its workspace; its retraining prints a line."""
    with open_workspace(open_study(folder)) as workspace:
        retraining = BackgroundCommand("timeit", arguments=["-n1", "-r1", "pass"])
        app = create_app(workspace, access=access, retraining=retraining)
        try:
            yield app, workspace
        finally:
            retraining.stop()
            app.state.context.pictures.close()


@pytest.fixture
def browser(app: tuple[Any, Workspace]) -> Browser:
    """A reviewer's browser on the `app` of the test's file."""
    return Browser(app[0])


@pytest.fixture
def workspace(app: tuple[Any, Workspace]) -> Workspace:
    """What the `app` of the test's file works on."""
    return app[1]


@dataclass
class ServerProcess:
    """`hardmil review` as a process."""

    process: subprocess.Popen[str]
    address: str

    def kill(self) -> None:
        """SIGKILL: nothing is tidied up."""
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def interrupt(self) -> int:
        """Ctrl-C; the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_S)

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()


def start_server(folder: Path, *options: str) -> ServerProcess:
    """The server of a study, once it listens."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "hardmil", "review", str(folder), "--no-browser", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://\S+", line):
            return ServerProcess(process, found[0])
    raise AssertionError(f"the server ended with status {process.wait(PATIENCE_S)}")
