"""The page in a real browser: nothing is fetched, nothing is cut off, and axe-core finds no serious fault."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardmil.report.page_data import Report
from hardmil.report.render import write_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = {"desktop": 1280, "phone": 390}


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Chromium, as this machine has it; without one, tests are skipped, or fail where one must be."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        reason = f"no browser: none of {', '.join(NAMES)} is on PATH"
        if os.environ.get("HARDMIL_REQUIRE_BROWSER") == "1":
            pytest.fail(f"{reason}, and HARDMIL_REQUIRE_BROWSER=1 asks for one")
        pytest.skip(reason)
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report_url(sample: Report, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, sample)
    return path.as_uri()


@pytest.mark.parametrize("width", WIDTHS.values(), ids=list(WIDTHS))
@pytest.mark.parametrize("are_open", [False, True], ids=["closed", "open"])
def test_the_page_in_a_browser(browser, report_url: str, width: int, are_open: bool):
    from axe_playwright_python.sync_playwright import Axe

    page = browser.new_page(viewport={"width": width, "height": 900})
    requests, said = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(report_url)
    if are_open:
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    broken = page.evaluate("[...document.images].filter(one => !one.naturalWidth).map(one => one.alt)")
    assert broken == []
    found = Axe().run(page).response["violations"]
    page.close()
    serious = [
        (one["id"], [node["html"] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in requests if url.startswith("file:")]) == 1
    assert said == []


def test_a_cell_leads_to_its_slides_and_one_click_opens_one(browser, report_url: str):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(report_url)
    page.click("a[href='#false-positives']")
    heading = page.locator("#false-positives")
    assert 0 <= heading.bounding_box()["y"] < 900
    picture = page.locator("img[alt='Slide fp1']")
    assert not picture.is_visible()
    page.click("summary:has-text('fp1')")
    assert picture.is_visible()
    page.close()


def test_in_print_all_is_open_and_no_table_is_wider_than_the_sheet(browser, report_url: str, tmp_path: Path):
    page = browser.new_page(viewport={"width": 688, "height": 1000})
    page.emulate_media(media="print")
    page.goto(report_url)
    assert page.locator("img[alt='Slide fp1']").bounding_box()["height"] > 20
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    edges = "one => one.getBoundingClientRect().right <= innerWidth"
    assert page.evaluate(f"[...document.querySelectorAll('table, img')].every({edges})")
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    page.close()
    assert (tmp_path / "report.pdf").stat().st_size > 50_000
