import re
from pathlib import Path

import pytest
from tests.support.review_server import ORIGIN, Browser, review_app

from hardmil.review.security import Access

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def browser(evaluated_review: Path):
    with review_app(evaluated_review) as (app, _):
        yield Browser(app)


@pytest.fixture(scope="module")
def guarded(evaluated_review: Path):
    access = Access(frozenset({"127.0.0.1", "lab.example"}), token=TOKEN)
    with review_app(evaluated_review, access=access) as (app, _):
        yield app


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8470", 200),
        ("localhost:1", 200),
        ("[::1]:8470", 200),
        ("LOCALHOST", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("127.0.0.1@evil.example", 421),
        ("192.0.2.7:8470", 421),
        ("[::1", 421),
        ("127.0.0.1:99999", 421),
        ("127.0.0.1:x", 421),
        ("127.0.0.1/x", 421),
        ("", 421),
    ],
)
def test_other_names_are_refused(browser: Browser, host: str, status: int):
    assert browser.get("/cases", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("access", "host", "is_known"),
    [
        (Access(any_ip=True), "192.0.2.7:80", True),
        (Access(any_ip=True), "[2001:db8::1]:80", True),
        (Access(any_ip=True), "evil.example", False),
        (Access(frozenset({"lab.example"})), "lab.example:8470", True),
        (Access(frozenset({"lab.example"})), "192.0.2.7", False),
    ],
)
def test_which_names_are_known(access: Access, host: str, is_known: bool):
    assert access.is_known(host) == is_known


@pytest.mark.parametrize(
    "origin",
    [None, "null", "http://evil.example", "https://127.0.0.1:8470", "http://127.0.0.1:9999"],
)
def test_writes_from_other_pages_are_refused(browser: Browser, origin: str | None):
    answer = browser.post("/api/undo", origin=origin)
    assert answer.status_code == 403
    assert "another page" in answer.text


@pytest.mark.parametrize("token", [None, "", "x", "x" * 43, "é"])
def test_writes_without_the_token_of_the_page_are_refused(browser: Browser, token: str | None):
    encoded = None if token is None else token.encode("latin-1")
    answer = browser.post("/api/undo", x_csrf_token=encoded)
    assert answer.status_code == 403
    assert "too old" in answer.text


def test_a_write_without_cookies_is_refused(browser: Browser):
    other = Browser(browser.client.app, name=None)
    other.client.cookies.clear()
    assert other.post("/api/undo").status_code == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_refused(browser: Browser, method: str):
    assert browser.client.request(method, "/api/verdicts").status_code == 403


def test_a_page_of_another_study_cannot_save(browser: Browser):
    answer = browser.post("/api/undo", x_study="0" * 16)
    assert answer.status_code == 409
    assert "another study" in answer.json()["detail"]


def test_large_bodies_are_refused_before_they_are_read(browser: Browser):
    answer = browser.post("/api/verdicts", {"patches": "x" * (1 << 20)})
    assert answer.status_code == 413
    assert browser.get("/" + "x" * 3000).status_code == 414
    chunked = browser.client.post("/api/undo", content=iter([b"{}"]), headers=browser.headers)
    assert chunked.status_code == 411


@pytest.mark.parametrize(
    "path", ["/", "/cases", "/api/queue", "/static/review.css", "/pictures/0/thumbnail.jpg", "/none"]
)
def test_every_answer_has_the_headers(browser: Browser, path: str):
    headers = browser.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


def test_pages_have_no_script_or_style_inside(browser: Browser):
    for path in ("/reviewer", "/", "/cluster/0", "/slide/0", "/cases", "/progress"):
        text = browser.get(path).text
        scripts = re.findall("<script[^>]*>([^<]*)</script>", text)
        assert len(scripts) == text.count("<script")
        assert "".join(scripts) == ""
        assert "<style" not in text
        assert " style=" not in text
        assert " onclick=" not in text


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
def test_there_are_no_pages_about_the_routes(browser: Browser, path: str):
    assert browser.get(path).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/passwd",
        "/static//etc/passwd",
        "/pictures/../../study.yaml",
        "/pictures/%2e%2e/thumbnail.jpg",
        "/pictures/0/tiles/9/..%2f..%2fslides.csv_0.jpg",
        "/slide/..%2f..%2fstudy.yaml",
        "/export/..%2fslides.csv",
    ],
)
def test_paths_lead_to_no_file(browser: Browser, path: str):
    answer = browser.get(path)
    assert answer.status_code in (404, 422)
    assert "import" not in answer.text
    assert "root:" not in answer.text


class TestToken:
    def test_without_it_nothing_is_shown(self, guarded: object):
        for path in (
            "/",
            "/api/queue",
            "/static/review.css",
            "/pictures/0/thumbnail.jpg",
            "/?token=wrong",
            "/?token=",
        ):
            assert Browser.raw(guarded).get(path).status_code == 403

    def test_with_it_the_browser_gets_a_cookie_and_the_address_loses_it(self, guarded: object):
        client = Browser.raw(guarded)
        answer = client.get(f"/cases?token={TOKEN}&x=1")
        assert (answer.status_code, answer.headers["location"]) == (303, "/cases?x=1")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert client.get("/reviewer").status_code == 200

    def test_the_address_leads_to_no_other_server(self, guarded: object):
        answer = Browser.raw(guarded).get(f"//evil.example?token={TOKEN}")
        assert answer.headers["location"] == "/" or answer.headers["location"].startswith("/evil")

    def test_a_write_needs_it_in_the_cookie(self, guarded: object):
        answer = Browser.raw(guarded).post(f"/api/undo?token={TOKEN}", headers={"origin": ORIGIN})
        assert answer.status_code == 403

    def test_the_token_does_not_replace_the_name(self, guarded: object):
        client = Browser.raw(guarded)
        client.get(f"/?token={TOKEN}")
        assert client.get("/reviewer", headers={"host": "evil.example"}).status_code == 421
