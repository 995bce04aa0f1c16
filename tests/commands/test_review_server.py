import os
import signal
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.support.review_server import Browser as PageInProcess
from tests.support.review_server import evaluated_review as evaluated_review
from tests.support.review_server import review_folder as review_folder
from tests.support.review_server import start_server
from tests.support.studies import Hardmil

from hardmil.commands import review_server as module
from hardmil.commands.review_server import ServerOptions, check_server
from hardmil.errors import ConfigError
from hardmil.mining.verdict_store import VerdictStore

TOKEN = "a-token-of-some-length"


def status_of(address: str) -> int:
    try:
        with urllib.request.urlopen(address) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "uvicorn" else name)
    with pytest.raises(ConfigError, match=r"needs uvicorn, .* pip install 'hardmil\[review\]'"):
        check_server(ServerOptions())


def test_a_short_token_is_refused():
    with pytest.raises(ConfigError, match="--token has 6 characters; expected at least 16"):
        check_server(ServerOptions(token="secret"))


def test_an_address_that_is_taken_or_not_ours(hardmil: Hardmil, evaluated_review: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = hardmil("review", evaluated_review, "--no-browser", "--port", port)
        assert run.code == 1
        assert f"--port {port}: cannot listen there (" in run.err
    run = hardmil("review", evaluated_review, "--no-browser", "--host", "192.0.2.1")
    assert run.code == 1
    assert "--host 192.0.2.1" in run.err


def test_a_study_that_was_not_evaluated(hardmil: Hardmil, study: Path):
    run = hardmil("review", study, "--no-browser")
    assert run.code == 1
    assert "hardmil evaluate" in run.err


@pytest.mark.slow
def test_ctrl_c_ends_it_and_what_was_saved_is_there(review_folder: Path):
    with start_server(review_folder) as server:
        assert server.address.startswith("http://127.0.0.1:")
        with PageInProcess(None, address=server.address) as page:
            assert page.judge(0, 0, "lesion").status_code == 200
        assert server.interrupt() == 130
    with VerdictStore(review_folder / "review.sqlite") as store:
        assert [one.verdict for one in store.standing()] == ["lesion"]


@pytest.mark.slow
def test_a_host_asks_for_a_token(evaluated_review: Path):
    with start_server(evaluated_review, "--host", "0.0.0.0", "--token", TOKEN) as server:
        assert server.address.endswith(f"/?token={TOKEN}")
        bare = server.address.partition("?")[0]
        assert status_of(bare) == 403
        assert status_of(f"{bare}?token={TOKEN[:-1]}x") == 403
        with PageInProcess(None, address=bare, token=TOKEN) as page:
            assert page.get("/cases").status_code == 200
    with start_server(evaluated_review, "--host", "0.0.0.0") as server:
        assert len(server.address.partition("token=")[2]) >= 32


@pytest.mark.slow
def test_verdicts_that_were_shown_as_saved_survive_sigkill(review_folder: Path):
    saved: list[tuple[int, str]] = []
    with start_server(review_folder) as server:
        page, enough = PageInProcess(None, address=server.address), threading.Event()

        def judge() -> None:
            for i in range(10_000):
                slide, instance, verdict = i % 24, i // 24 % 30, ("normal", "lesion")[i // 720 % 2]
                try:
                    answer = page.judge(slide, instance, verdict)
                except page.broken:
                    return
                if answer.status_code == 200:
                    saved.append((answer.json()["numbers"][0], verdict))
                if len(saved) >= 30:
                    enough.set()

        thread = threading.Thread(target=judge)
        thread.start()
        assert enough.wait(600)
        os.kill(server.process.pid, signal.SIGKILL)
        thread.join(600)
        page.client.close()
    assert len(saved) >= 30
    with VerdictStore(review_folder / "review.sqlite") as store:
        stored = {one.number: one.verdict for one in store.verdicts()}
    assert {number: stored.get(number) for number, _ in saved} == dict(saved)
