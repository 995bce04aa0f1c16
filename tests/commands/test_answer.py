import io
import json
import sys
from contextlib import redirect_stdout

import pytest
from tests.support.studies import Hardmil

from hardmil.commands.answer import json_alone, print_json


def test_only_json_reaches_stdout(capsys: pytest.CaptureFixture[str]):
    with json_alone():
        print("a library says something")
        print_json({"n": 1})
    print("after it")
    captured = capsys.readouterr()
    assert captured.out == '{"n": 1}\nafter it\n'
    assert captured.err == "a library says something\n"


def test_json_goes_to_the_stdout_of_its_time():
    out = io.StringIO()
    with redirect_stdout(out):
        print_json({"n": 2})
    assert out.getvalue() == '{"n": 2}\n'
    assert sys.stdout is not out


def test_nan_is_not_json():
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"auc": float("nan")})


def test_an_error_is_json_too(hardmil: Hardmil, tmp_path):
    run = hardmil("patch", tmp_path / "no-study", "--json")
    assert run.code == 1
    said = json.loads(run.out)["error"]
    assert "no-study" in said
    assert run.err == f"hardmil: {said}\n"


def test_wrong_arguments_are_json_too(hardmil: Hardmil):
    run = hardmil("patch", "--workers", "many", "--json")
    assert run.code == 2
    assert json.loads(run.out) == {"error": "wrong arguments; the message is on stderr"}
    assert "--workers" in run.err


def test_without_json_stdout_is_left_alone(hardmil: Hardmil, tmp_path):
    run = hardmil("patch", tmp_path / "no-study")
    assert (run.code, run.out) == (1, "")


def test_a_command_prints_its_lines_on_stderr(hardmil: Hardmil, tmp_path):
    run = hardmil("init", tmp_path / "study", "--json")
    assert run.code == 0
    assert json.loads(run.out)["failures"] == {}
    assert "study.yaml" in run.err
