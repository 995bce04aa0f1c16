"""docs/python.md is true: its blocks run, one after the other, in an empty folder."""

import re
from pathlib import Path

import pytest

import hardmil

PAGE = Path(__file__).parents[1] / "docs" / "python.md"


@pytest.mark.slow
def test_blocks_go_from_three_slides_to_a_heat_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.M | re.S):
        exec(compile(block, PAGE.name, "exec"), namespace)
    for picture in (namespace["heat_map"], Path("my-heat-map.png")):
        assert isinstance(picture, Path)
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_every_function_in_the_table_is_in_the_package():
    table = PAGE.read_text().split("## Three slides")[0]
    names = re.findall(r"`(\w+)\(", table)
    assert len(names) > 10
    assert [name for name in names if not callable(getattr(hardmil, name))] == []
