"""A synthetic report, filled as a command would; HARDMIL_SAMPLE_REPORT=path keeps it to be looked at."""

import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.reports import P_NOTE, WARNING, Page, cells_of, numbers_in, sample_arms, sample_intervals

from hardmil.jobs.failures import Failure
from hardmil.pictures.patch_pictures import GalleryPicture
from hardmil.report.page_data import (
    CLAIM,
    COLUMNS,
    DESCRIPTIVE,
    DIFFERENCE_GROUPS,
    INTERVAL_GROUPS,
    RATES,
    STANDARD_ERRORS,
    Confusion,
    EstimateRow,
    Exclusion,
    Report,
    ReportArm,
    ReportIntervals,
    ReportTable,
    SlideDiagnosis,
)
from hardmil.report.render import duration_text, render_report, write_report


def test_sample(sample: Report, tmp_path: Path):
    path = Path(os.environ.get("HARDMIL_SAMPLE_REPORT", tmp_path / "report.html"))
    write_report(path, sample)
    assert Page(path.read_text(encoding="utf-8")).text.count(sample.title) == 2


def test_every_number_of_the_table_is_the_one_given(sample: Report):
    page = Page(render_report(sample))
    for arm in sample.tables[0].arms:
        cells = cells_of(page, arm.name)
        for cell, key in zip(cells, COLUMNS, strict=False):
            value = arm.values[key]
            if math.isnan(value.mean):
                assert "not defined" in cell
            else:
                assert numbers_in(cell) == [round(value.mean, 3), round(value.se, 3)]
        assert cells[8] == "15"
        assert cells[9:] == ([str(arm.n_false_positive_bags), str(arm.n_hard)] if arm.mines else ["–", "–"])


def test_hard_minus_random_is_a_line_of_its_own_with_signs(sample: Report):
    page = Page(render_report(sample))
    cells = cells_of(page, "hard minus random")
    difference = sample.tables[0].arms[2].hard_minus_random
    assert difference is not None
    for cell, value in zip(cells, difference.values(), strict=False):
        assert numbers_in(cell) == [round(value.mean, 3), 0.013]
    assert cells[0].startswith("−0.021")
    assert cells[3].startswith("+0.009")
    assert sum(row[0].startswith("hard minus random") for row in page.rows) == 1


def test_every_interval_and_every_difference_is_the_one_given(sample: Report):
    page, given = Page(render_report(sample)), sample_intervals()
    rows = {row[0]: row[1:] for row in page.rows if len(row) in (6, 9)}
    for row, groups in [
        *((row, INTERVAL_GROUPS) for row in given.arms),
        *((row, DIFFERENCE_GROUPS) for row in given.differences),
    ]:
        keys = [key for group in groups for key in group.columns]
        for cell, key in zip(rows[row.name + row.note], keys, strict=True):
            one = row.values[key]
            expected = [value for value in (one.value, one.low, one.high, one.p) if not math.isnan(value)]
            assert numbers_in(cell) == [round(value, 3) for value in expected]
            assert ("not defined" in cell) == math.isnan(one.value)
    assert "−0.091 −0.174 to +0.016 p 0.213" in rows["ours+fmb-oof minus ours"]
    assert "0.310 0.227 to 0.417" in rows["ours"]


def test_the_page_says_which_rate_is_the_main_result_and_what_an_interval_covers(sample: Report):
    page = Page(render_report(sample))
    headings = [cell for row in page.rows for cell in row]
    assert headings.count(CLAIM.heading) == 2
    assert headings.count(DESCRIPTIVE.heading) == 2
    assert headings.count("AUC (fold mean)") == 1
    assert headings.count("AUC (pooled)") == 2
    assert page.text.count(WARNING) == 1
    assert page.text.count(P_NOTE) == 2, "once below the findings, once below the differences"
    resampled = r"38 cases\b.*\b20,000 times"
    assert re.search(resampled, page.text)
    assert "training again" in page.text
    assert "ours+fmb-oof minus ours" in page.text
    without = Page(render_report(replace(sample, tables=[ReportTable("t", sample_arms())])))
    assert not re.search(resampled, without.text)
    alone = replace(sample_intervals(), differences=[])
    no_pairs = Page(render_report(replace(sample, tables=[ReportTable("t", sample_arms(), alone)])))
    assert re.search(resampled, no_pairs.text)
    assert "ours+fmb-oof minus ours" not in no_pairs.text


def test_undefined_values_and_folds_left_out_are_marked(sample: Report):
    page = Page(render_report(sample))
    assert cells_of(page, "ours+fmb-oof@random")[5] == "– not defined"
    precision = cells_of(page, "ours+fmb-oof")[1]
    assert "(1 undefined)" in precision


def test_an_arm_that_mined_nothing_is_marked(sample: Report):
    page = Page(render_report(sample))
    [row] = [row for row in page.rows if row[0].startswith("ours+fmb") and "mined nothing" in row[0]]
    assert row[-2:] == ["0", "0"]
    assert page.text.count("mined nothing: the same as its base") == 1


def test_nothing_mined_at_all(sample: Report):
    arms = [replace(arm, mines=False) for arm in sample_arms()[:1]]
    report = replace(
        sample,
        tables=[ReportTable("t", arms)],
        hard_negatives=[],
        n_hard_negatives=0,
        attention=[],
        failures=[],
        confusion=None,
    )
    page = Page(render_report(report))
    assert "None were mined" in page.text
    unplaced = Page(render_report(replace(report, n_hard_negatives=7)))
    assert "7 were mined" in unplaced.text
    for heading in ("Instances mined", "What failed"):
        assert heading in Page(render_report(sample)).text
        assert heading not in page.text


def test_pictures_have_alternative_texts_and_coordinates(sample: Report):
    page = Page(render_report(sample))
    images = page.attributes("img")
    assert len(images) == 2 * len(sample.hard_negatives) + 2 + 3 + 3 * 6 + 2
    assert all(image["alt"] for image in images)
    item = sample.hard_negatives[0].item
    assert f"Patch of slide {item.slide_id}, ({item.x}, {item.y})" in [image["alt"] for image in images]
    assert f"{item.slide_id} ({item.x}, {item.y})" in page.text
    assert "Shown: 8 of 612." in page.text


def test_a_page_of_hard_negatives_alone(sample: Report):
    page = Page(render_report(replace(sample, tables=[])))
    assert "Comparison" in Page(render_report(sample)).text
    assert "Comparison" not in page.text
    assert "Hard negatives" in page.text


def test_an_item_without_a_picture_says_why(sample: Report):
    bare = GalleryPicture(sample.hard_negatives[0].item, None, None, "no path for this slide")
    report = replace(sample, hard_negatives=[bare], attention=[], confusion=None, curves=[], calibration=None)
    page = Page(render_report(report))
    assert page.attributes("img") == []
    assert "No picture: no path for this slide" in page.text


def test_the_page_loads_nothing_and_is_marked_up(sample: Report):
    text = render_report(sample)
    page = Page(text)
    assert not re.search(r"https?:|url\(|@import|<script|<link", text)
    assert all((image["src"] or "").startswith("data:image/") for image in page.attributes("img"))
    assert page.attributes("html") == [{"lang": "en"}]
    assert {cell["scope"] for cell in page.attributes("th")} == {"row", "col", "colgroup"}
    assert len(page.attributes("h1")) == 1
    targets = {attributes["id"] for attributes in page.attributes("h2")}
    assert {attributes["aria-labelledby"] for attributes in page.attributes("section")} == targets
    labels = {cell.get("data-label") for cell in page.attributes("td")} - {None}
    grouped = {name + group.narrow for group in INTERVAL_GROUPS for name in group.columns.values()}
    of_arms = next(row for row in page.rows if COLUMNS["accuracy"] in row)
    others = {"Cases", "Slides", "Patches", "Found", *RATES.values()}
    others |= {"Taken", "AUC", "Below the best", "Next", "Ahead by (standard error)"}
    assert labels == set(of_arms) - {"Arm"} | grouped | others


def test_what_auto_chose_is_on_the_page_or_the_section_is_not(sample: Report):
    text = render_report(sample)
    assert "more than one standard error ahead of all others in 1 of 3 trials" in text
    assert "The trials of auto took 12 min 34 s of one process" in text
    assert re.search(r"ours-top5</th>\s*<td[^>]*>3 of 3</td>", text)
    assert re.search(r"repeat 0, fold 1</th>.*?abmil</td>\s*<td[^>]*>\+0.004 \(0.020\)", text, re.DOTALL)
    assert "What auto chose" not in render_report(replace(sample, choices=None))


def test_limits_config_and_run_are_on_the_page(sample: Report):
    page = Page(render_report(sample))
    assert page.text.count("Research use; not a medical device.") == 2
    assert sample.config in page.text
    for words in ("versions torch", "2.13.0", "git commit", "dd4eb68", "run time", "6 min 53 s"):
        assert words in page.text
    assert "hidden" not in page.text
    assert "slide_017.svs: there is no such file" in page.text


def _hostile_confusion(report: Report) -> Confusion:
    assert report.confusion is not None
    return replace(
        report.confusion,
        slides=[replace(one, slide_id=HOSTILE, mined=HOSTILE) for one in report.confusion.slides],
    )


HOSTILE = '<b>"x"</b>&<script>alert(1)</script>'


@pytest.mark.parametrize(
    "spoil",
    [
        lambda report: replace(report, title=HOSTILE, question=HOSTILE, config=HOSTILE),
        lambda report: replace(report, run={HOSTILE: HOSTILE}, limits=[HOSTILE]),
        lambda report: replace(report, failures=[Failure(HOSTILE, HOSTILE, "")]),
        lambda report: replace(report, diagnoses=[SlideDiagnosis(*[HOSTILE] * 4)]),
        lambda report: replace(report, data=replace(report.data, exclusions=[Exclusion(HOSTILE, HOSTILE)])),
        lambda report: replace(report, confusion=_hostile_confusion(report)),
        lambda report: replace(report, curves=[replace(report.curves[0], alt=HOSTILE, caption=HOSTILE)]),
        lambda report: replace(report, attention=[replace(report.attention[0], caption=HOSTILE)]),
        lambda report: replace(report, data=replace(report.data, positive=HOSTILE, negative=HOSTILE)),
        lambda report: replace(report, tables=[ReportTable(HOSTILE, [ReportArm(HOSTILE, {}, note=HOSTILE)])]),
        lambda report: replace(
            report,
            tables=[
                ReportTable(
                    "t",
                    sample_arms(),
                    ReportIntervals(9, 20_000, [EstimateRow(HOSTILE, {}, note=HOSTILE)], notes=[HOSTILE]),
                )
            ],
        ),
        lambda report: replace(
            report,
            hard_negatives=[
                replace(picture, item=replace(picture.item, slide_id=HOSTILE))
                for picture in report.hard_negatives
            ],
        ),
    ],
)
def test_ids_are_escaped(sample: Report, spoil: Callable[[Report], Report]):
    text = render_report(spoil(sample))
    page = Page(text)
    assert page.attributes("script") == []
    assert HOSTILE in page.text
    assert HOSTILE not in text


def test_marks_are_where_their_numbers_say_next_to_those_of_the_base(sample: Report):
    page = Page(render_report(sample))
    rates = sample.tables[0].rates
    assert rates is not None
    styles = {
        kind: [one["style"] for one in page.attributes("span") if one.get("class") == kind]
        for kind in ("dot", "before")
    }
    values = [row.values[key] for row in rates.rows for key in RATES]
    assert styles["dot"] == [f"left:{100 * one.value / 0.6:.1f}%" for one in values if one.value == one.value]
    # Of the two arms that add to `ours` and are of the page, each rate that both have.
    assert len(styles["before"]) == 8
    assert set(styles["before"]) <= {f"left:{100 * values[i].value / 0.6:.1f}%" for i in range(3)}
    assert "00.30.6" in page.text  # the axis
    assert rates.findings[0] in page.text


def test_what_readers_must_know_stands_at_the_top(sample: Report):
    about = "These slides are <synthetic>."
    page = Page(render_report(replace(sample, about=about)))
    assert page.text.index(about) < page.text.index("Research use")
    assert 'class="warning">These' not in render_report(sample)


def test_standard_errors_are_explained_where_there_are_some(sample: Report):
    once = replace(sample, tables=[replace(table, is_repeated=False) for table in sample.tables])
    repeated, single = Page(render_report(sample)).text, Page(render_report(once)).text
    for words in ("Mean ± standard error over repeats.", STANDARD_ERRORS[0], STANDARD_ERRORS[1]):
        assert words in repeated
        assert words not in single
    assert sample.limits[-1] in single


def test_every_rate_is_next_to_its_mark(sample: Report):
    page, rates = Page(render_report(sample)), sample.tables[0].rates
    assert rates is not None
    for row in rates.rows:
        [cells] = [one for one in page.rows if one[0] == row.name + row.role]
        for cell, key in zip(cells[1:], RATES, strict=True):
            one = row.values[key]
            expected = [value for value in (one.value, one.low, one.high) if not math.isnan(value)]
            found = row.values["sens_op"]
            if key == "fpr_op" and expected:
                expected += [value for value in (found.value, found.low, found.high) if not math.isnan(value)]
            assert numbers_in(cell) == [round(value, 3) for value in expected]


def test_the_data_section_counts_labels_and_says_what_was_left_out(sample: Report):
    page = Page(render_report(sample))
    assert ["normalnegative", "20", "21", "41,370"] in page.rows
    assert ["lesionpositive", "18", "19", "38,002"] in page.rows
    assert "slide_044 no patch" in page.text
    whole = replace(sample, data=replace(sample.data, exclusions=[]))
    assert "No slide of the table was left out." in Page(render_report(whole)).text
    assert "Held out" not in page.text
    held_out = replace(sample, data=replace(sample.data, n_held_out=31))
    assert re.search(r"Held out\s*31", Page(render_report(held_out)).text)


def test_each_cell_leads_to_its_slides_and_each_wrong_one_opens(sample: Report):
    page = Page(render_report(sample))
    targets = {one.get("id") for _, one in page.elements}
    links = [str(one["href"]) for one in page.attributes("a")]
    assert {link.removeprefix("#") for link in links} <= targets
    assert {f"#{kind}-{call}s" for kind in ("true", "false") for call in ("positive", "negative")} <= set(
        links
    )
    assert "False positives: 3" in page.text
    assert "True negatives: 1" in page.text
    assert len(page.attributes("details")) == 4 + 2  # with the choices of auto, and the config
    assert "2 of 3 have pictures; the rest are named with their scores." in page.text
    assert "No picture: left out to keep the page small" in page.text
    assert "12 of its patches were mined." in page.text
    assert page.text.index("fp1") < page.text.index("fp2") < page.text.index("fp3")


def test_hard_negatives_are_under_their_clusters(sample: Report):
    page = Page(render_report(sample))
    assert "Cluster 0: 300 patches, 2 shown" in page.text
    assert "Cluster 3: 12 patches, 2 shown" in page.text
    loose = [replace(one, item=replace(one.item, cluster=-1)) for one in sample.hard_negatives]
    mixed = replace(sample, hard_negatives=[*loose[:1], *sample.hard_negatives[1:]], n_by_cluster={})
    text = Page(render_report(mixed)).text
    assert text.index("Cluster 3: 2 patches") < text.index("Not clustered: 1 patch")
    assert "luster" not in Page(render_report(replace(sample, hard_negatives=loose))).text


def test_hard_negatives_of_many_classes_are_under_their_class(sample: Report):
    first, second, *rest = sample.hard_negatives
    found = [
        *(replace(one, item=replace(one.item, hard_for="b", cluster=0)) for one in (first, *rest)),
        replace(second, item=replace(second.item, hard_for="a", cluster=0)),
    ]
    data = replace(sample.data, classes=("normal", "a", "b"))
    report = replace(sample, data=data, hard_negatives=found, n_by_cluster={("a", 0): 9}, confusion=None)
    text = Page(render_report(report)).text
    assert "Patches with the most attention for a class, from slides of other classes" in text
    assert text.index("Called a, cluster 0: 9 patches, 1 shown") < text.index(
        "Called b, cluster 0: 7 patches"
    )
    loose = [replace(one, item=replace(one.item, cluster=-1)) for one in found]
    without = Page(render_report(replace(report, hard_negatives=loose))).text
    assert "Called b: 7 patches" in without


def test_diagnoses_are_a_table_or_nothing(sample: Report):
    page = Page(render_report(sample))
    assert ["slide_003", "It is flat."] in page.rows
    assert ["slide_003", "It points away."] in page.rows
    assert page.text.count("What to do: train for longer.") == 1
    assert "Collapsed: 23 slides" in page.text
    assert "Inverted: 1 slide" in page.text
    assert "And slide_020, slide_021, slide_022." in page.text
    assert "Attention that looks wrong" in page.text
    assert "Attention that looks wrong" not in Page(render_report(replace(sample, diagnoses=()))).text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(8.24, "8.2 s"), (59.97, "1 min 0 s"), (200, "3 min 20 s"), (7500.2, "2 h 5 min")],
)
def test_times_are_in_words(seconds: float, words: str):
    assert duration_text(seconds) == words
