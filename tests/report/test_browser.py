"""The page in a real browser: nothing is fetched, nothing is cut off, and axe-core finds no serious fault."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.browsers import browser as browser
from tests.support.browsers import listen_for_errors, serious_faults

from hardmil.report.page_data import CalledSlide, Confusion, Report
from hardmil.report.render import write_report

pytestmark = pytest.mark.slow

WIDTHS = {"desktop": 1280, "phone": 390}


@pytest.fixture(scope="module")
def report_url(sample: Report, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, sample)
    return path.as_uri()


@pytest.mark.parametrize("width", WIDTHS.values(), ids=list(WIDTHS))
@pytest.mark.parametrize("are_open", [False, True], ids=["closed", "open"])
def test_the_page_in_a_browser(browser, report_url: str, width: int, are_open: bool):
    page = browser.new_page(viewport={"width": width, "height": 900})
    requests, said = [], listen_for_errors(page)
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report_url)
    if are_open:
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    broken = page.evaluate("[...document.images].filter(one => !one.naturalWidth).map(one => one.alt)")
    assert broken == []
    found = serious_faults(page)
    page.close()
    assert found == []
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


@pytest.mark.parametrize("width", WIDTHS.values(), ids=list(WIDTHS))
def test_with_several_labels_each_wrong_call_leads_to_its_slide(
    browser, sample: Report, tmp_path: Path, width: int
):
    """Slide s1 has a and is called b; s2 has both, and is called so."""
    slides = [
        CalledSlide(
            "s1", "a", "b", 0.9, 0.5, scored="score 0.1 for a", classes="a", called_classes="b", error=0.4
        ),
        CalledSlide("s2", "a + b", "a + b", 0.9, 0.5, classes="ab", called_classes="ab"),
    ]
    data = replace(sample.data, classes=("a", "b"), is_multi_label=True)
    report = replace(sample, data=data, confusion=Confusion("ours", "", 1, slides))
    write_report(tmp_path / "report.html", report)
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto((tmp_path / "report.html").as_uri())
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert serious_faults(page) == []
    links = page.locator("a[href='#wrong-0']")
    assert links.all_inner_texts() == ["s1", "s1"]
    cells = [one.strip() for one in page.locator("table.matrix td").all_inner_texts()]
    assert cells == ["1", "1", "0", "0", "1", "0", "1", "0"]
    links.first.click()
    assert -1 <= page.locator("#wrong-0").bounding_box()["y"] < 900
    assert "labelled a, called b; score 0.1 for a" in page.locator("#wrong-0 summary").inner_text()
    page.close()
