"""The README is true: its blocks run, its make lines are in the Makefile, its links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from tests.support.studies import QUICK, Hardmil, draw_slide, slide_rows, write_csv

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.M | re.S)


def fill_in(study: Path) -> None:
    """What the README asks the user to do after `init`; settings small enough for a test."""
    write_csv(study / "slides.csv", slide_rows(study))
    content = yaml.safe_load((study / "study.yaml").read_text(encoding="utf-8"))
    content["encode"] = "pixels"
    content["patches"] |= {"um_per_px": None, "size_px": 24}
    content["mining"]["inner_folds"] = 2
    content["evaluation"] |= {"folds": 2}
    for setting in (*QUICK, "training.epochs=1"):
        key, value = setting.split("=")
        section, name = key.split(".")
        content[section][name] = yaml.safe_load(value)
    (study / "study.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def test_the_tour_runs_as_written(hardmil: Hardmil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new").mkdir()
    for seed, name in enumerate(("one", "two")):
        draw_slide(tmp_path / "new" / f"{name}.png", positive=bool(seed), seed=seed)
    lines = [line for block in blocks("hardmil") for line in block.splitlines()]
    assert [line.split()[1] for line in lines] == [
        "init", "doctor", "patch", "encode", "evaluate", "train", "mine", "predict",
    ]  # fmt: skip
    for line in lines:
        run = hardmil(*shlex.split(line)[1:])
        assert run.code == 0, f"{line}: {run.err}"
        if "init" in line:
            fill_in(tmp_path / "my-study")
    assert (tmp_path / "my-study" / "runs" / "main" / "report.html").exists()
    assert (tmp_path / "predictions" / "predictions.csv").exists()


def test_python_blocks_run() -> None:
    namespace: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), namespace)
    hard = namespace["hard_instances"]
    assert callable(hard)
    np = namespace["np"]
    assert hard(np.array([0.1, 0.1, 0.1, 0.6, 0.1], dtype=np.float32)).tolist() == [3]  # type: ignore[attr-defined]


def test_make_lines_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for text in (README, (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        targets = re.findall(r"^make (\w+)", text, flags=re.M)
        assert targets
        for target in targets:
            assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_the_first_block_is_the_two_commands() -> None:
    first = re.search(r"^```\n(.*?)^```$", README, flags=re.M | re.S)
    assert first is not None
    assert first.group(1) == "make demo\nmake test\n"


def test_reproduce_lines_name_options_that_exist(hardmil: Hardmil) -> None:
    options = hardmil("reproduce", "--help").out
    for line in re.findall(r"^hardmil reproduce .*$", README, flags=re.M):
        for option in re.findall(r"--[a-z-]+", line):
            assert option in options, option


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target
