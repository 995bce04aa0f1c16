"""The review in a real browser: judged by keyboard, killed, started again, trained, read."""

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.browsers import browser as browser
from tests.support.browsers import listen_for_errors, serious_faults
from tests.support.review_server import ServerProcess, start_server
from tests.support.studies import read_csv
from tests.support.waiting import PATIENCE_S

from hardmil.mining.verdict_store import StoredVerdict, VerdictStore
from hardmil.review.slide_pictures import PATCH_PX
from hardmil.review.templating import VIEWER

WIDTHS = {"desktop": (1280, 800), "tablet": (820, 1180)}
TWENTY = "12301230123012301231"
NAMES = {"1": "normal", "2": "lesion", "3": "artefact", "0": "unsure"}
N_DRAWN = """(() => {
  const canvas = document.querySelector('.overlay-canvas');
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return data.filter((value, i) => i % 4 === 3 && value > 0).length;
})()"""
"""How many pixels the overlay covers."""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shared_folder(evaluated_review: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(evaluated_review, tmp_path_factory.mktemp("shared") / "study")


@pytest.fixture(scope="module")
def server(shared_folder: Path) -> Iterator[ServerProcess]:
    with start_server(shared_folder) as started:
        yield started


@pytest.fixture
def page(browser: Any, server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page of a reviewer who has just come; it must report no error."""
    page, said = new_page(browser, server.address, name=request.node.name[:60])
    yield page
    page.context.close()
    assert said == []


def new_page(
    browser: Any, address: str, *, name: str, size: tuple[int, int] = (1280, 800)
) -> tuple[Any, list[str]]:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, base_url=address)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    said = listen_for_errors(page)
    page.goto("/")
    page.fill("#name", name)
    page.keyboard.press("Enter")
    shows(page, 0)
    return page, said


def shows(page: Any, index: int) -> None:
    page.wait_for_selector(f"body[data-shown='{index}']")


def is_saved(page: Any) -> None:
    page.wait_for_selector("#saved[data-state=saved]")


def stored(folder: Path) -> list[StoredVerdict]:
    with VerdictStore(folder / "review.sqlite") as store:
        return store.standing()


def test_twenty_patches_by_keyboard_through_undo_reload_and_kill(browser: Any, review_folder: Path):
    with start_server(review_folder) as server:
        port = server.address.rstrip("/").rpartition(":")[2]
        page, said = new_page(browser, server.address, name="Dr A")
        for i, key in enumerate(TWENTY):
            shows(page, i)
            page.keyboard.press(key)
        shows(page, 20)
        is_saved(page)
        assert page.inner_text("#judged") == "20"
        assert [one.verdict for one in stored(review_folder)] == [NAMES[key] for key in TWENTY]
        assert all((one.seconds or 0) > 0 and not one.revealed for one in stored(review_folder))
        page.keyboard.press("u")
        shows(page, 19)
        assert len(stored(review_folder)) == 19
        page.reload()
        shows(page, 19)
        assert said == []
        server.kill()
        page.keyboard.press("2")
        shows(page, 20)
        page.wait_for_selector("#failed:not([hidden])")
        assert "does not answer" in page.inner_text("#failed-why")
        assert page.inner_text("#saved") == ""
    assert len(stored(review_folder)) == 19
    with start_server(review_folder, "--port", port):
        page.keyboard.press("r")
        is_saved(page)
        assert page.is_hidden("#failed")
        assert [one.verdict for one in stored(review_folder)][-1] == "lesion"
        page.reload()
        shows(page, 20)
        page.keyboard.press("ArrowLeft")
        shows(page, 19)
        assert page.inner_text("#seen") == "seen before: lesion"
        page.context.close()


def test_what_was_not_saved_survives_a_reload(browser: Any, review_folder: Path):
    with start_server(review_folder) as server:
        page, _ = new_page(browser, server.address, name="Dr A")
        page.route("**/api/verdicts", lambda route: route.abort())
        page.keyboard.press("2")
        page.wait_for_selector("#failed:not([hidden])")
        page.unroute("**/api/verdicts")
        page.goto("/cluster")
        is_saved(page)
        page.context.close()
    assert [one.verdict for one in stored(review_folder)] == ["lesion"]


def test_the_next_patches_are_there_before_they_are_asked_for(browser: Any, server: ServerProcess):
    page, _ = new_page(browser, server.address, name="Dr C")
    page.wait_for_load_state("networkidle")
    for path in ("**/pictures/**", "**/api/slides/**"):
        page.route(path, lambda route: route.abort())
    for index in range(1, 9):
        page.keyboard.press("ArrowRight")
        # Without waiting for anything: it is in the document when the key has been handled.
        assert page.get_attribute("body", "data-shown") == str(index)
        assert page.evaluate("document.querySelector('#patch img').naturalWidth") == PATCH_PX
    page.context.close()


def test_scores_are_hidden_until_they_are_asked_for(page: Any, shared_folder: Path):
    assert page.is_hidden("#scores")
    page.keyboard.press("s")
    page.wait_for_selector("#scores:not([hidden])")
    assert "instance logit" in page.inner_text("#scores")
    page.keyboard.press("1")
    shows(page, 1)
    assert page.is_hidden("#scores")
    is_saved(page)
    assert stored(shared_folder)[-1].revealed
    page.keyboard.press("u")
    shows(page, 0)


def test_a_cluster_with_an_exception_by_keyboard(page: Any, shared_folder: Path):
    before = len(stored(shared_folder))
    page.goto("/cluster")
    n = page.locator(".cell").count()
    assert n > 2
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    assert page.locator(".cell[aria-pressed=true]").count() == 1
    page.keyboard.press("1")
    is_saved(page)
    assert len(stored(shared_folder)) == before + n - 1
    page.keyboard.press("2")
    page.wait_for_selector(".cell[data-verdict=lesion]")
    is_saved(page)
    verdicts = [one.verdict for one in stored(shared_folder)[before:]]
    assert sorted(verdicts) == ["lesion"] + ["normal"] * (n - 1)
    page.keyboard.press("u")
    unjudged = page.locator(".cell[data-verdict='']")
    unjudged.wait_for()
    page.keyboard.press("u")
    unjudged.nth(n - 1).wait_for()
    assert len(stored(shared_folder)) == before


@pytest.mark.skipif(not VIEWER.exists(), reason="no OpenSeadragon; `make openseadragon` gets it")
def test_deep_zoom_with_an_overlay(page: Any, shared_folder: Path):
    tiles: list[str] = []
    page.on("response", lambda one: tiles.append(f"{one.status} {one.url}") if "/tiles/" in one.url else None)
    page.goto("/slide/2")
    page.wait_for_selector("body[data-drawn]")
    page.wait_for_load_state("networkidle")
    assert tiles
    assert all(one.startswith("200 ") for one in tiles)
    all_patches = page.evaluate(N_DRAWN)
    assert all_patches > 1000
    page.uncheck("#outlines")
    page.fill("#share", "5")
    assert 0 < page.evaluate(N_DRAWN) < all_patches / 3
    page.check("input[value=none]")
    assert page.evaluate(N_DRAWN) == 0
    page.check("input[value=logit]")
    assert page.inner_text("#low").startswith("-")
    page.keyboard.press("n")
    assert "1 of 30 by its value, not judged yet" in page.inner_text("#chosen")
    before = len(stored(shared_folder))
    page.keyboard.press("2")
    is_saved(page)
    judged = stored(shared_folder)[before]
    assert (judged.verdict, judged.source, judged.revealed) == ("lesion", "slide", True)
    page.keyboard.press("u")
    page.wait_for_selector("#chosen:has-text('not judged yet')")
    page.keyboard.press("h")
    box = page.locator("#viewer").bounding_box()
    page.wait_for_load_state("networkidle")
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#chosen:has-text('Patch')")
    assert len(stored(shared_folder)) == before


def test_a_remark_on_a_slide(page: Any, shared_folder: Path):
    page.goto("/cases")
    form = page.locator("form.remark").first
    form.locator("select").select_option("poor quality")
    form.locator("input").fill("out of focus")
    form.locator("input").press("Enter")
    form.locator(".saved:has-text('✓ saved')").wait_for()
    page.reload()
    assert "poor quality – out of focus" in page.inner_text("main")
    form.locator("select").select_option("fine")
    form.locator("button").click()
    form.locator(".saved:has-text('✓ saved')").wait_for()
    with VerdictStore(shared_folder / "review.sqlite") as store:
        assert [one.remark for one in store.remarks()] == ["poor quality", "fine"]


def test_export_import_and_the_effect_of_the_verdicts(browser: Any, review_folder: Path, tmp_path: Path):
    with start_server(review_folder) as server:
        page, said = new_page(browser, server.address, name="Dr A")
        page.goto("/progress")
        rows = [
            f"s{i},{x * 64},0,{'lesion' if i // 2 % 2 else 'normal'}" for i in range(24) for x in range(2)
        ]
        table = tmp_path / "elsewhere.csv"
        table.write_text("\n".join(["slide_id,x,y,verdict", *rows, "s99,0,0,normal"]) + "\n")
        page.set_input_files("#files", str(table))
        page.click("#import button")
        page.wait_for_selector("#report li:has-text('not matched: 1 on slides that the study does not have')")
        assert "48 verdicts added" in page.inner_text("#report")
        page.reload()
        with page.expect_download() as download:
            page.click("a[href='/export/verdicts.csv']")
        exported = read_csv(Path(download.value.path()))
        assert len(exported) == 48
        assert {row["reviewer"] for row in exported} == {"Dr A"}
        with page.expect_download() as download:
            page.click("a[href='/export/verdicts.zip']")
        with zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())) as archive:
            regions = json.loads(archive.read("s2.geojson"))["features"]
        assert {one["properties"]["classification"]["name"] for one in regions} == {"lesion"}
        page.click("#retrain")
        page.wait_for_selector("#state:has-text('has been running')")
        page.wait_for_selector("#rounds tbody tr")
        assert "48" in page.inner_text("#rounds tbody tr td >> nth=0")
        assert page.locator("#rounds tbody tr").count() == 1
        assert serious_faults(page) == []
        page.context.close()
    assert said == []
    assert (review_folder / "runs" / "review" / "rounds.csv").exists()


@pytest.mark.parametrize("size", WIDTHS.values(), ids=list(WIDTHS))
def test_every_page_at_two_widths(browser: Any, server: ServerProcess, size: tuple[int, int]):
    page, said = new_page(browser, server.address, name="Dr B", size=size)
    for path in ("/", "/reviewer", "/cluster", "/slide/2", "/cases", "/progress", "/slide/99"):
        page.goto(path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth"), path
        assert serious_faults(page) == [], path
        broken = "[...document.images].filter(one => one.complete && !one.naturalWidth).map(one => one.src)"
        assert page.evaluate(broken) == [], path
        page.keyboard.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", path
    page.context.close()
    # The page that is not there.
    assert [one for one in said if "404" not in one] == []


def test_a_slide_that_vanished_is_said_and_the_next_patch_can_be_judged(browser: Any, review_folder: Path):
    with start_server(review_folder) as server:
        slides = review_folder / "slides"
        slides.rename(review_folder / "elsewhere")
        context = browser.new_context(base_url=server.address)
        page = context.new_page()
        page.goto("/")
        page.fill("#name", "Dr A")
        page.keyboard.press("Enter")
        page.wait_for_selector("#gone:has-text('the slide cannot be read any more')")
        page.keyboard.press("1")
        page.keyboard.press("ArrowRight")
        shows(page, 1)
        page.wait_for_load_state("networkidle")
        (review_folder / "elsewhere").rename(slides)
        page.keyboard.press("r")
        page.wait_for_selector("#patch img")
        context.close()
    assert stored(review_folder) == []


def test_three_classes_by_keyboard(browser: Any, class_review_folder: Path):
    with start_server(class_review_folder) as server:
        page, said = new_page(browser, server.address, name="Dr A")
        for i, key in enumerate("123a0"):
            shows(page, i)
            page.keyboard.press(key)
        shows(page, 5)
        is_saved(page)
        words = ["normal", "a", "b", "artefact", "unsure"]
        assert [one.verdict for one in stored(class_review_folder)] == words
        page.keyboard.press("u")
        shows(page, 4)
        page.click("nav.classes a:has-text('b')")
        page.wait_for_selector("nav.classes a[aria-current]:has-text('b')")
        page.wait_for_selector("body[data-shown]:not([data-shown=''])")
        in_class = int(page.inner_text("#left"))
        page.keyboard.press("s")
        page.wait_for_selector("#scores:not([hidden])")
        assert page.locator("#scores option").all_inner_texts() == ["b", "a"]
        before = page.inner_text("#scores dl")
        page.select_option("#scores select", label="a")
        assert page.inner_text("#scores dl") != before
        page.keyboard.press("3")
        page.wait_for_selector(f"#left:text-is('{in_class - 1}')")
        is_saved(page)
        page.goto("/cluster?class=0")
        page.keyboard.press("3")
        page.wait_for_selector(".cell.tone-lesion-2[data-verdict=b]")
        assert page.locator(".cell .word").first.inner_text() == "b"
        page.keyboard.press("u")
        page.wait_for_selector(".cell[data-verdict='']")
        _check_pages_of_classes(page)
        page.context.close()
    assert said == []


def _check_pages_of_classes(page: Any) -> None:
    """All pages fit the screen and are accessible."""
    for path in ("/", "/?class=1", "/cluster?class=0", "/slide/2", "/cases", "/cases?class=1", "/progress"):
        page.goto(path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth"), path
        assert serious_faults(page) == [], path


def test_several_labels_by_keyboard(browser: Any, multi_review_folder: Path):
    with start_server(multi_review_folder) as server:
        page, said = new_page(browser, server.address, name="Dr A")
        for i, key in enumerate("123oa0"):
            shows(page, i)
            page.keyboard.press(key)
        shows(page, 6)
        is_saved(page)
        words = ["a", "b", "c", "normal", "artefact", "unsure"]
        assert [one.verdict for one in stored(multi_review_folder)] == words
        page.goto("/?class=2")
        page.wait_for_selector("nav.classes a[aria-current]:has-text('c')")
        page.wait_for_selector("body[data-shown]:not([data-shown=''])")
        page.keyboard.press("s")
        page.wait_for_selector("#scores:not([hidden])")
        assert page.locator("#scores option").all_inner_texts() == ["c", "a", "b"]
        page.goto("/cluster?class=1")
        page.keyboard.press("o")
        page.wait_for_selector(".cell.tone-normal[data-verdict=normal]")
        assert page.locator(".cell .word").first.inner_text() == "none of these"
        _check_pages_of_classes(page)
        page.context.close()
    assert said == []


@pytest.mark.skipif(not VIEWER.exists(), reason="no OpenSeadragon; `make openseadragon` gets it")
def test_the_overlay_of_another_class(browser: Any, class_review_folder: Path):
    with start_server(class_review_folder) as server:
        page, said = new_page(browser, server.address, name="Dr A")
        page.goto("/slide/2")
        page.wait_for_selector("body[data-drawn]")
        shown = page.input_value("#class")
        before = page.inner_text("#high")
        with page.expect_response("**/api/slides/2?class=*"):
            page.select_option("#class", str(1 - int(shown)))
        page.wait_for_function("before => document.getElementById('high').textContent !== before", arg=before)
        page.keyboard.press("n")
        page.keyboard.press("2")
        page.wait_for_selector("#chosen:has-text(': a')")
        is_saved(page)
        page.context.close()
    assert said == []
    assert [one.verdict for one in stored(class_review_folder)] == ["a"]
