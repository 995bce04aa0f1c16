import re
from pathlib import Path

import pytest

from hardmil.config.patches import PatchConfig
from hardmil.errors import SlideError
from hardmil.slides.resolution import Resolution, Scale, needed_mpp, resolution_notes, study_resolution

PATH = Path("a.svs")


@pytest.mark.parametrize(
    ("scale", "mpp"),
    [
        (Scale(), None),
        (Scale(0.25, 0.25), 0.25),
        (Scale(0.25, 0.2502), 0.2501),
        (Scale(0.25, None), 0.25),
        (Scale(0.25, 0.5), None),
        (Scale(352.8, 352.8), None),
        (Scale(2.5e-4, 2.5e-4), None),
        (Scale(power=20.0), None),
    ],
)
def test_only_a_plausible_resolution_of_a_file_is_used(scale: Scale, mpp: float | None):
    assert scale.mpp == (None if mpp is None else pytest.approx(mpp))


@pytest.mark.parametrize(
    ("table", "scale", "config", "expected"),
    [
        (0.3, Scale(0.25, 0.25, 40.0), {"mpp": 0.4}, Resolution(0.3, "table")),
        (None, Scale(0.25, 0.25, 40.0), {"mpp": 0.4}, Resolution(0.25, "file")),
        (None, Scale(power=40.0), {"mpp": 0.4, "mpp_from_power": True}, Resolution(0.4, "--mpp")),
        (None, Scale(power=40.0), {"mpp_from_power": True}, Resolution(0.25, "objective")),
        (None, Scale(power=40.0), {}, Resolution(None, None)),
        (None, Scale(352.8, 352.8), {"mpp": 0.4}, Resolution(0.4, "--mpp")),
    ],
)
def test_order_of_the_sources(table, scale, config, expected):
    assert study_resolution(scale, table=table, config=PatchConfig(**config)) == expected


@pytest.mark.parametrize(
    ("scale", "table", "message"),
    [
        (Scale(0.25, 0.5), None, r"not square \(0.25 x 0.5 um\).*um_per_px: null"),
        (Scale(0.25, 0.5), 0.25, r"not square"),
        (Scale(), None, r"slides\.csv, .*--mpp .*patches\.um_per_px: null"),
        (Scale(power=20.0), None, r"mpp_from_power: true .* 0\.5 .* 20x objective"),
        (Scale(2.5e-4, 2.5e-4), None, r"0\.00025 um/px, .* 0\.05 to 10"),
        (Scale(5.0, 5.0, 20.0), None, r"the file says 5 um/px; expected about 0\.5 from its 20x objective"),
        (Scale(0.05, 0.05, 20.0), None, r"the file says 0\.05 um/px; .* 20x objective"),
        (Scale(0.5, 0.5, 20.0), 5.0, r"the table of slides says 5 um/px; .* 20x objective"),
    ],
)
def test_missing_and_implausible_resolutions_are_refused(scale: Scale, table: float | None, message: str):
    with pytest.raises(SlideError, match=rf"a\.svs: .*{message}"):
        needed_mpp(scale, path=PATH, table=table, config=PatchConfig())
    assert needed_mpp(scale, path=PATH, table=table, config=PatchConfig(um_per_px=None)) is None


@pytest.mark.parametrize("um_per_px", [0.5, None])
@pytest.mark.parametrize(
    ("table", "option", "source"),
    [(46.0, None, "the table of slides"), (0.004, None, "the table of slides"), (None, 46.0, r"--mpp .*")],
)
def test_a_given_resolution_that_no_scan_has_is_refused(
    um_per_px: float | None, table: float | None, option: float | None, source: str
):
    config = PatchConfig(um_per_px=um_per_px).model_copy(update={"mpp": option})
    value = f"{table or option:g}"
    with pytest.raises(
        SlideError, match=rf"a\.svs: {source} says {value} um/px; expected 0\.05 to 10, .*point"
    ):
        needed_mpp(Scale(), path=PATH, table=table, config=config)


@pytest.mark.parametrize(
    ("table", "is_slip"), [(2.5, True), (2.48, True), (0.46, False), (1.0, False), (4.0, False)]
)
def test_a_misplaced_decimal_point_in_the_table_is_refused(table: float, is_slip: bool):
    """A factor of 4 or 16 is that of an image that was made smaller, whose file the table corrects."""
    scale, config = Scale(0.25, 0.25), PatchConfig()
    if not is_slip:
        assert needed_mpp(scale, path=PATH, table=table, config=config) == table
        return
    with pytest.raises(SlideError, match=rf"table of slides says {table} um/px, the file 0\.25; .*point"):
        needed_mpp(scale, path=PATH, table=table, config=config)


@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0])
def test_magnification_changers_and_binning_are_accepted(mpp: float):
    assert needed_mpp(Scale(mpp, mpp, 20.0), path=PATH, table=None, config=PatchConfig()) == mpp


def test_table_corrects_a_wrong_file():
    assert needed_mpp(Scale(5.0, 5.0, 20.0), path=PATH, table=0.5, config=PatchConfig()) == 0.5


def test_notes_on_a_resolution_that_may_be_wrong():
    config = PatchConfig(mpp_from_power=True)
    assert resolution_notes(Scale(0.25, 0.25), table=None, config=config) == []
    assert resolution_notes(Scale(0.25, 0.25), table=0.251, config=config) == []
    (note,) = resolution_notes(Scale(0.25, 0.25), table=0.5, config=config)
    assert re.search(r"table says 0\.5 um/px, the file 0\.25", note)
    (note,) = resolution_notes(Scale(power=40.0), table=None, config=config)
    assert re.search(r"0\.25 um/px .* 40x objective", note)
