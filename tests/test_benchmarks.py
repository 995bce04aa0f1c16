"""Each script of benchmarks/ is imported; those with --table print what docs/ holds."""

import re
import shutil
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "benchmarks").rglob("*.py"))
WITH_TABLE = [path for path in SCRIPTS if '"--table"' in path.read_text(encoding="utf-8")]
NUMBER = re.compile(r"\d*\.\d+|\d+")
LAST_DIGIT = 1.1e-3
"""Most numbers have three decimals; on another machine, the last one may be rounded the other way."""


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of benchmarks/ and docs/: scripts find the rows, and write tables, next to themselves."""
    for name in ("benchmarks", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("benchmarks", "benchmarks/reliability"):  # they import one another
        monkeypatch.syspath_prepend(tmp_path / folder)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def _imported(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = spec_from_file_location(f"benchmark_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _same(line: str, other: str) -> bool:
    """Whether two lines are the same but for the last digit of their numbers."""
    if NUMBER.sub("0", line) != NUMBER.sub("0", other):
        return False
    numbers = (map(float, NUMBER.findall(text)) for text in (line, other))
    return all(abs(one - two) <= LAST_DIGIT for one, two in zip(*numbers, strict=True))


def test_lines_are_the_same_up_to_the_last_digit():
    assert _same("| `ours` | .123 ±.010 | 2 of 10 |", "| `ours` | .124 ±.010 | 2 of 10 |")
    assert not _same("| `ours` | .123 |", "| `ours` | .125 |")
    assert not _same("| `ours` | .123 | 2 |", "| `ours` | .123 | 3 |")
    assert not _same("| `ours` | .123 |", "| `abmil` | .123 |")
    assert not _same("| `ours` | .123 |", "| `ours` |  |")


def test_the_scripts_are_found():
    assert {path.stem for path in SCRIPTS} >= {"phantom", "rare_foci", "reproduction", "training"}
    assert {path.stem for path in WITH_TABLE} >= {"phantom", "rare_foci", "reproduction"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_each_script_can_be_imported(path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch):
    module = _imported(copy / path.relative_to(ROOT), monkeypatch)
    assert module.__doc__
    assert hasattr(module, "main") == ("__main__" in path.read_text(encoding="utf-8"))


def _rows(folder: Path) -> dict[str, bytes]:
    """The kept rows in docs/, by their path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in (folder / "docs").rglob("*.csv")}


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


# Not measured: it runs the same few functions on many rows, which takes twice as long under coverage.
@pytest.mark.no_cover
@pytest.mark.parametrize("path", WITH_TABLE, ids=lambda path: path.stem)
def test_tables_in_docs_are_those_of_the_kept_rows(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A page that the script writes is written again; a table that it prints is in some page."""
    kept = {page: _lines(page) for page in (copy / "docs").rglob("*.md")}
    generated = [page for page in kept if kept[page][0].startswith("<!-- Gen") and path.name in kept[page][0]]
    for page in generated:
        page.write_text("")
    module = _imported(copy / path.relative_to(ROOT), monkeypatch)
    monkeypatch.setattr(sys, "argv", [path.name, "--table"])
    module.main()
    for page, lines in kept.items():
        again = _lines(page)
        assert len(again) == len(lines), f"{page.name}: run {path.name} --table"
        assert [(old, new) for old, new in zip(lines, again, strict=True) if not _same(old, new)] == []
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert generated or printed
    in_docs = [line for lines in kept.values() for line in lines]
    assert [line for line in printed if not any(_same(line, one) for one in in_docs)] == []
    assert _rows(copy) == _rows(ROOT)


def test_the_benchmark_of_the_review_runs_and_continues(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    review = _imported(copy / "benchmarks" / "review.py", monkeypatch)
    size = review.Size(n_train=16, n_test=8, budgets=(10,), epochs=2)
    rows, output = tmp_path / "rows.csv", tmp_path / "studies"
    review.run(output, rows=rows, seeds=[0], size=size)
    found = review.read_table(rows, review.ReviewRow)
    assert [(row.order, row.n_verdicts) for row in found] == [
        ("unreviewed", 0),
        ("queue", 10),
        ("random", 10),
    ]
    assert {row.n_wrong for row in found} == {1}
    assert all(row.n_found <= row.n_lesion for row in found)
    shutil.rmtree(output)
    review.run(output, rows=rows, seeds=[0], size=size)
    assert review.read_table(rows, review.ReviewRow) == found
    assert not output.exists()
