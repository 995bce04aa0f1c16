import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.support.review_server import Browser, review_app
from tests.support.waiting import wait_until

from hardmil.errors import StoreError
from hardmil.mining.verdict_store import VerdictStore
from hardmil.review import templating
from hardmil.review.workspace import Workspace

PATCH = {"slide": 0, "instance": 0, "verdict": "normal"}
VERDICTS = ["normal", "lesion", "artefact", "unsure"]


@pytest.fixture
def app(review_folder: Path) -> Iterator[tuple[Any, Workspace]]:
    with review_app(review_folder) as found:
        yield found


class TestQueue:
    def test_the_name_is_asked_first_and_once(self, app: tuple[Any, Workspace]):
        browser = Browser(app[0], name=None)
        answer = browser.get("/progress")
        assert (answer.status_code, answer.headers["location"]) == (303, "/reviewer?next=/progress")
        assert browser.judge(0, 0, "normal").status_code == 403
        assert browser.post("/api/reviewer", {"name": "  Dr.  Ä “x” "}).json() == {"name": "Dr. Ä “x”"}
        assert browser.get("/progress").status_code == 200
        assert "Dr. Ä “x”" in browser.get("/progress").text

    @pytest.mark.parametrize("name", ["", "   ", "x" * 61, "a\nb\x00", 7, None])
    def test_what_is_no_name(self, browser: Browser, name: object):
        assert browser.post("/api/reviewer", {"name": name}).status_code == 422

    def test_a_name_is_shown_and_not_run(self, browser: Browser):
        browser.post("/api/reviewer", {"name": "<script>alert(1)</script>"})
        assert "<script>alert" not in browser.get("/progress").text
        assert "&lt;script&gt;alert" in browser.get("/progress").text

    def test_the_page_that_asks_leads_to_no_other_server(self, browser: Browser):
        assert 'data-next="/"' in browser.get("/reviewer?next=//evil.example").text

    def test_it_is_blind(self, browser: Browser, workspace: Workspace):
        items = browser.get("/api/queue").json()["items"]
        assert len(items) == len(workspace.queue)
        assert {key for item in items for key in item} == {"slide", "instance", "cluster", "verdict"}
        for path in ("/", f"/api/slides/{items[0]['slide']}/patches/{items[0]['instance']}"):
            text = browser.get(path).text
            assert not any(word in text for word in ("tumour", "false positive", "logit", "attention"))

    def test_scores_are_there_on_request(self, browser: Browser, workspace: Workspace):
        item = workspace.queue[0]
        scores = browser.get(f"/api/slides/{item.slide}/patches/{item.instance}/scores").json()
        assert scores["label"] == workspace.slides[item.slide].label
        (of_branch,) = scores["classes"]
        assert of_branch["logit"] == pytest.approx(item.logit)
        assert of_branch["attention"] == pytest.approx(item.attention)

    def test_a_verdict_is_in_the_store_when_the_answer_is_there(self, browser: Browser, workspace: Workspace):
        item = next(one for one in workspace.queue if one.reason != "random")
        answer = browser.judge(item.slide, item.instance, "lesion", seconds=2.5, revealed=True).json()
        (stored,) = VerdictStore(workspace.store.path).standing()
        assert answer["numbers"] == [stored.number]
        assert stored.patch == workspace.patch_of(item)
        assert (stored.reviewer, stored.verdict, stored.source) == ("Dr A", "lesion", "queue")
        assert (stored.seconds, stored.revealed) == (2.5, True)
        assert answer["counts"]["judged"] == 1
        assert answer["counts"]["left"] == len(workspace.queue) - 1

    def test_random_patches_are_stored_as_the_control(self, browser: Browser, workspace: Workspace):
        item = next(one for one in workspace.queue if one.reason == "random")
        browser.judge(item.slide, item.instance, "normal")
        assert workspace.store.standing()[0].source == "random"

    def test_undo_and_what_it_undid(self, browser: Browser, workspace: Workspace):
        assert browser.post("/api/undo").json()["undone"] is None
        for instance, verdict in enumerate(VERDICTS):
            browser.judge(1, instance, verdict)
        assert browser.post("/api/undo").json()["undone"] == {"slide": 1, "instance": 3, "verdict": "unsure"}
        assert browser.post("/api/undo").json()["undone"]["verdict"] == "artefact"
        assert [one.verdict for one in workspace.store.standing()] == ["normal", "lesion"]
        assert len(workspace.store.verdicts()) == 6

    def test_what_is_sent_twice_is_stored_once(self, browser: Browser, workspace: Workspace):
        first = browser.judge(0, 1, "normal").json()["numbers"]
        assert browser.judge(0, 1, "normal").json()["numbers"] == first
        browser.post("/api/undo")
        assert workspace.store.standing() == []
        assert browser.judge(0, 1, "normal").json()["numbers"] != first

    def test_a_verdict_that_was_given_before_another_is_a_new_row(
        self, browser: Browser, workspace: Workspace
    ):
        for instance, verdict in ((1, "normal"), (2, "lesion"), (1, "normal")):
            browser.judge(0, instance, verdict)
        assert len(workspace.store.verdicts()) == 3

    def test_seen_before_is_what_this_reviewer_said(self, app: tuple[Any, Workspace]):
        first, second = Browser(app[0], name="A"), Browser(app[0], name="B")
        item = app[1].queue[0]
        first.judge(item.slide, item.instance, "lesion")
        assert first.get("/api/queue").json()["items"][0]["verdict"] == "lesion"
        assert second.get("/api/queue").json()["items"][0]["verdict"] is None


class TestWrongRequests:
    @pytest.mark.parametrize(
        "change",
        [
            {"slide": 24},
            {"instance": 30},
            {"slide": 10**8},
        ],
    )
    def test_numbers_of_nothing_are_not_found(self, browser: Browser, change: dict[str, int]):
        patch = {"slide": 0, "instance": 0, "verdict": "normal"} | change
        answer = browser.post("/api/verdicts", {"patches": [patch], "source": "queue"})
        assert answer.status_code == 404
        assert "There is no" in answer.json()["detail"]

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"patches": [], "source": "queue"},
            {"patches": [{"slide": -1, "instance": 0, "verdict": "normal"}], "source": "queue"},
            {"patches": [{"slide": "0", "instance": 0, "verdict": "normal"}], "source": "queue"},
            {"patches": [{"slide": 0.0, "instance": True, "verdict": "normal"}], "source": "queue"},
            {"patches": [{"slide": 10**30, "instance": 0, "verdict": "normal"}], "source": "queue"},
            {"patches": [{"slide": 0, "instance": 0, "verdict": "withdrawn"}], "source": "queue"},
            {"patches": [PATCH], "source": "random"},
            {"patches": [PATCH], "source": "queue", "seconds": -1},
            {
                "patches": [{"slide": 0, "instance": 0, "verdict": "normal"}],
                "source": "queue",
                "reviewer": "x",
            },
            {"patches": [PATCH] * 501, "source": "cluster"},
        ],
    )
    def test_bodies_that_are_not_verdicts(self, browser: Browser, workspace: Workspace, body: object):
        assert browser.post("/api/verdicts", body).status_code == 422
        assert workspace.store.verdicts() == []

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/pictures/0/tiles/9/0_0.jpg", 200),
            ("/pictures/0/tiles/9/1_0.jpg", 404),
            ("/pictures/0/tiles/8/0_0.jpg", 404),
            ("/pictures/0/tiles/99999999/0_0.jpg", 404),
            ("/pictures/0/tiles/9/-1_0.jpg", 422),
            ("/pictures/0/tiles/9/0_99999999999999999999.jpg", 422),
            ("/pictures/0/tiles/9/a_0.jpg", 422),
            ("/pictures/0/tiles/1e2/0_0.jpg", 422),
            ("/pictures/0/tiles/9/0_0.png", 404),
            ("/pictures/24/tiles/9/0_0.jpg", 404),
            ("/pictures/-1/thumbnail.jpg", 422),
            ("/pictures/0/patches/29/patch.jpg", 200),
            ("/pictures/0/patches/30/patch.jpg", 404),
            ("/pictures/0/patches/-1/small.jpg", 422),
            ("/slide/23", 200),
            ("/slide/24", 404),
            ("/slide/x", 422),
            ("/cluster/100000", 404),
        ],
    )
    def test_numbers_in_addresses(self, browser: Browser, path: str, status: int):
        assert browser.get(path).status_code == status


class TestSlides:
    def test_the_data_of_a_slide(self, browser: Browser, workspace: Workspace):
        browser.judge(3, 7, "artefact")
        data = browser.get("/api/slides/3").json()
        assert (data["width"], data["height"], data["mpp"], data["size"]) == (460, 350, 0.5, 64)
        assert (data["x"][7], data["y"][7]) == (64, 64)
        assert data["logit"] == pytest.approx(workspace.patches(3).logit.tolist(), rel=1e-5)
        assert data["verdicts"] == {"7": "artefact"}

    def test_a_slide_that_vanished_is_said_to_and_the_rest_goes_on(
        self, browser: Browser, workspace: Workspace
    ):
        path = workspace.slides[2].path
        assert path is not None
        assert browser.get("/pictures/2/thumbnail.jpg").status_code == 200
        path.unlink()
        for address in ("/pictures/2/thumbnail.jpg", "/pictures/2/patches/0/patch.jpg", "/api/slides/2"):
            answer = browser.get(address)
            assert answer.status_code == 404
            assert "the slide cannot be read any more" in answer.json()["detail"]
        assert browser.get("/slide/2").status_code == 200
        assert browser.get("/pictures/3/thumbnail.jpg").status_code == 200
        assert browser.judge(2, 0, "normal").status_code == 200

    def test_without_the_viewer_the_page_says_how_to_get_it(
        self, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("hardmil.review.routes_pages.VIEWER", tmp_path / "none.js")
        text = browser.get("/slide/0").text
        assert "make openseadragon" in text
        assert "slide.js" not in text
        assert browser.get("/").status_code == 200

    def test_remarks_are_on_the_page_of_cases(self, browser: Browser, workspace: Workspace):
        number = next(i for i, one in enumerate(workspace.slides) if one.label == "normal")
        body = {"remark": "label wrong", "comment": "<b>tumour</b> in the corner"}
        assert browser.post(f"/api/slides/{number}/remark", body).status_code == 200
        text = browser.get("/cases").text
        assert "&lt;b&gt;tumour&lt;/b&gt; in the corner" in text
        assert "<b>tumour" not in text
        assert browser.post(f"/api/slides/{number}/remark", {"remark": "fine"}).status_code == 200
        assert workspace.store.standing_remarks() == []
        assert browser.post("/api/slides/0/remark", {"remark": "good"}).status_code == 422
        assert (
            browser.post("/api/slides/0/remark", {"remark": "fine", "comment": "x" * 1001}).status_code == 422
        )


class TestClusters:
    def test_the_rest_of_a_cluster_is_saved_and_undone_at_once(self, browser: Browser, workspace: Workspace):
        first = browser.get("/cluster").headers["location"]
        number = int(first.rpartition("/")[2])
        items = workspace.cluster(number)
        text = browser.get(first).text
        assert text.count('class="cell"') == len(items)
        patches = [{"slide": one.slide, "instance": one.instance, "verdict": "normal"} for one in items[1:]]
        body = {"patches": patches, "source": "cluster", "seconds": 10.0}
        assert len(browser.post("/api/verdicts", body).json()["numbers"]) == len(items) - 1
        assert workspace.store.standing()[0].seconds == pytest.approx(10 / (len(items) - 1))
        assert browser.get("/cluster").headers["location"] == first
        browser.judge(items[0].slide, items[0].instance, "lesion")
        assert browser.get("/cluster").headers["location"] != first
        browser.post("/api/undo")
        browser.post("/api/undo")
        assert workspace.store.standing() == []


class TestManyAtOnce:
    def test_two_reviewers_with_two_tabs_each(self, app: tuple[Any, Workspace]):
        browsers = [Browser(app[0], name=name) for name in ("A", "A", "B", "B")]

        def judge(tab: int) -> list[int]:
            return [
                browsers[tab].judge(slide, tab % 2 * 10 + i, VERDICTS[tab]).status_code
                for slide in range(3)
                for i in range(10)
            ]

        with ThreadPoolExecutor(4) as pool:
            assert {code for codes in pool.map(judge, range(4)) for code in codes} == {200}
        standing = app[1].store.standing()
        assert len(standing) == 120
        assert {(one.reviewer, one.verdict) for one in standing} == {
            ("A", "normal"), ("A", "lesion"), ("B", "artefact"), ("B", "unsure"),
        }  # fmt: skip
        kappa = browsers[0].get("/progress").text
        assert "A and B both judged 60 patches" in kappa


class TestErrors:
    def test_a_store_that_cannot_be_written_is_said_and_nothing_is_saved(
        self, browser: Browser, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ):
        def full(*_: object) -> list[int]:
            raise StoreError("review.sqlite: the disk is full")

        monkeypatch.setattr(VerdictStore, "add", full)
        answer = browser.judge(0, 0, "normal")
        assert answer.status_code == 503
        assert answer.json() == {"detail": "review.sqlite: the disk is full"}
        monkeypatch.undo()
        assert browser.judge(0, 0, "normal").status_code == 200
        assert len(workspace.store.verdicts()) == 1

    def test_pages_say_what_was_not_found(self, browser: Browser):
        answer = browser.get("/slide/99")
        assert answer.status_code == 404
        assert "There is no slide 99; there are 24." in answer.text
        assert answer.headers["content-type"].startswith("text/html")

    def test_a_store_that_another_program_wrote_to_is_read_again(
        self, browser: Browser, workspace: Workspace
    ):
        browser.judge(0, 0, "normal")
        with VerdictStore(workspace.store.path) as other:
            other.remark(reviewer="B", slide_id=workspace.slides[0].slide_id, remark="poor quality")
        assert "poor quality" in browser.get("/cases").text
        with pytest.raises(sqlite3.DatabaseError, match="only added"):
            sqlite3.connect(workspace.store.path).execute("DELETE FROM verdicts")


class TestTraining:
    def test_it_is_started_once_and_followed(self, browser: Browser):
        assert browser.get("/api/retraining").json() == {"state": "not started", "lines": [], "seconds": 0}
        assert browser.post("/api/retraining").status_code == 200
        wait_until(lambda: browser.get("/api/retraining").json()["state"] == "done")
        wait_until(lambda: browser.get("/api/retraining").json()["lines"])
        assert "loop" in browser.get("/api/retraining").json()["lines"][0]

    def test_the_viewer_is_where_make_puts_it(self):
        assert templating.VIEWER.parent == templating.STATIC / "vendor"
