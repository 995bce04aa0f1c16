"""What a page of a study of more than two classes can ask for and save."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.review_server import Browser, review_app

from hardmil.review.workspace import Workspace

pytestmark = pytest.mark.slow


@pytest.fixture
def app(class_review_folder: Path) -> Iterator[tuple[Any, Workspace]]:
    with review_app(class_review_folder) as found:
        yield found


def test_verdicts_name_classes_and_others_are_refused(browser: Browser, workspace: Workspace):
    for instance, verdict in enumerate(("normal", "a", "b", "artefact", "unsure")):
        assert browser.judge(3, instance, verdict).status_code == 200
    assert [one.verdict for one in workspace.store.standing()] == [
        "normal",
        "a",
        "b",
        "artefact",
        "unsure",
    ]
    for verdict in ("lesion", "c", "A", "", "withdrawn"):
        assert browser.judge(3, 0, verdict).status_code == 422
    answer = browser.judge(3, 0, "c").json()["detail"]
    assert answer == "There is no verdict 'c' in this study; expected one of normal, a, b, artefact, unsure."
    assert len(workspace.store.verdicts()) == 5


def test_sent_twice_undone_and_seen_again_by_class(browser: Browser, workspace: Workspace):
    item = workspace.queue[0]
    first = browser.judge(item.slide, item.instance, "b").json()["numbers"]
    assert browser.judge(item.slide, item.instance, "b").json()["numbers"] == first
    assert browser.judge(item.slide, item.instance, "a").json()["numbers"] != first
    assert browser.get("/api/queue").json()["items"][0]["verdict"] == "a"
    undone = {"slide": item.slide, "instance": item.instance, "verdict": "a"}
    assert browser.post("/api/undo").json()["undone"] == undone
    assert browser.get("/api/queue").json()["items"][0]["verdict"] == "b"


def test_the_queue_of_a_class_is_blind_too(browser: Browser, workspace: Workspace):
    whole = browser.get("/api/queue").json()["items"]
    parts = [browser.get(f"/api/queue?class={number}").json()["items"] for number in range(2)]
    assert sum(map(len, parts)) == len(whole) > max(map(len, parts))
    assert {key for item in whole for key in item} == {"slide", "instance", "cluster", "verdict"}
    shown = [(one["slide"], one["instance"]) for one in parts[1]]
    assert shown == [(one.slide, one.instance) for one in workspace.queue if one.branch == 1]


def test_scores_begin_with_the_class_in_question(browser: Browser, workspace: Workspace):
    item = next(one for one in workspace.queue if one.branch == 1)
    scores = browser.get(f"/api/slides/{item.slide}/patches/{item.instance}/scores").json()
    first, second = scores["classes"]
    assert (first["title"], second["title"]) == ("b", "a")
    assert first["attention"] == pytest.approx(item.attention)
    assert second["attention"] == pytest.approx(
        float(workspace.patches(item.slide, branch=0).attention[item.instance])
    )
    assert first["score"] == pytest.approx(workspace.slides[item.slide].calls[1].score)


def test_the_values_of_a_slide_are_those_of_a_class(browser: Browser, workspace: Workspace):
    for branch in range(2):
        data = browser.get(f"/api/slides/3?class={branch}").json()
        expected = workspace.patches(3, branch=branch).attention.tolist()
        assert data["attention"] == pytest.approx(expected, rel=1e-5)
    shown = workspace.held_out.shown_branch(workspace.slides[3])
    assert browser.get("/api/slides/3").json() == browser.get(f"/api/slides/3?class={shown}").json()


def test_clusters_and_cases_of_a_class(browser: Browser, workspace: Workspace):
    address = browser.get("/cluster?class=1").headers["location"]
    text = browser.get(address).text
    assert "is it b?" in text
    number = int(address.removeprefix("/cluster/").removesuffix("?class=1"))
    assert {item.branch for item in workspace.cluster(number)} == {1}
    assert 'href="/cluster/' in text
    assert text.count("?class=1") == 3
    text = browser.get("/cases?class=0").text
    assert "called a, slide is" in text
    assert "called b, slide is" not in text
    alarms = sum(slide.calls[0].is_alarm for slide in workspace.slides)
    assert text.count("called a, slide is") == alarms


@pytest.mark.parametrize("path", ["/", "/cluster", "/cases", "/api/queue", "/api/slides/0"])
def test_classes_that_are_none(browser: Browser, path: str):
    assert browser.get(f"{path}?class=2").status_code == 404
    assert browser.get(f"{path}?class=b").status_code == 422


def test_progress_and_agreement_are_by_class(app: tuple[Any, Workspace]):
    first, second = Browser(app[0], name="A"), Browser(app[0], name="B")
    for instance, verdict in enumerate(("a", "b", "normal")):
        first.judge(3, instance, verdict)
        second.judge(3, instance, "b")
    agreement = app[1].agreement()
    assert agreement is not None
    assert agreement.table == ((0, 0, 1, 0, 0), (0, 0, 1, 0, 0), (0, 0, 1, 0, 0), *[(0,) * 5] * 2)
    text = first.get("/progress").text
    assert '<th scope="col">a</th><th scope="col">b</th><th scope="col">artefact</th>' in text


def test_two_classes_have_no_class_to_choose(review_folder: Path):
    with review_app(review_folder) as (app, _):
        browser = Browser(app)
        assert browser.get("/?class=0").status_code == 404
        assert "Class in question" not in browser.get("/").text


def test_of_several_labels_each_page_is_of_one_class(multi_review_folder: Path):
    with review_app(multi_review_folder) as (app, workspace):
        browser = Browser(app)
        for branch, name in enumerate("abc"):
            items = browser.get(f"/api/queue?class={branch}").json()["items"]
            expected = [(one.slide, one.instance) for one in workspace.queue if one.branch == branch]
            assert [(one["slide"], one["instance"]) for one in items] == expected != []
            assert (
                f"is it {name}?"
                in browser.get(browser.get(f"/cluster?class={branch}").headers["location"]).text
            )
            text = browser.get(f"/cases?class={branch}").text
            shown, _, _ = text.partition("<details>")
            n_alarms = sum(slide.calls[branch].is_alarm for slide in workspace.slides)
            assert shown.count(f"false positive: {name}") == shown.count('class="case"') == n_alarms > 0
        assert browser.get("/?class=3").status_code == 404


def test_of_several_labels_a_slide_says_which_were_wrong(multi_review_folder: Path):
    with review_app(multi_review_folder) as (app, workspace):
        browser = Browser(app)
        for number, slide in enumerate(workspace.slides):
            text = browser.get(f"/slide/{number}").text
            for name, call in zip("abc", slide.calls, strict=True):
                assert (f"false positive: {name}<" in text) == call.is_alarm
                assert (f"false negative: {name}<" in text) == call.is_miss


def test_of_several_labels_a_verdict_is_a_class_or_none(multi_review_folder: Path):
    with review_app(multi_review_folder) as (app, workspace):
        first, second = Browser(app, name="A"), Browser(app, name="B")
        for instance, verdict in enumerate(("a", "b", "normal", "artefact", "unsure")):
            assert first.judge(3, instance, verdict).status_code == 200
        assert [one.verdict for one in workspace.store.standing()] == [
            "a",
            "b",
            "normal",
            "artefact",
            "unsure",
        ]
        answer = first.judge(3, 0, "lesion").json()["detail"]
        assert answer.endswith("expected one of a, b, c, normal, artefact, unsure.")
        for instance in range(2):
            second.judge(3, instance, "a")
        agreement = workspace.agreement()
        assert agreement is not None
        assert agreement.table == ((1, 0, 0, 0, 0, 0), (1, 0, 0, 0, 0, 0), *[(0,) * 6] * 4)
        text = first.get("/progress").text
        assert '<th scope="col">c</th><th scope="col">none of these</th><th scope="col">artefact</th>' in text
        assert "two reviewers who\nname different ones may both be right" in text
