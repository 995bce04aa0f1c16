import pytest

from hardmil.jobs.failures import MOST_CAUSES, Failure, print_failures


def test_thousands_of_failures_are_summed_up(capsys: pytest.CaptureFixture[str]):
    same = [Failure(f"s{i}", f"s{i}: no such file", "") for i in range(8000)]
    print_failures(same)
    assert capsys.readouterr().err == "8000 failed\n  s0, s1, s2 and 7997 more: s0: no such file\n"
    others = [Failure(f"s{i}", f"cause {i * 7919}", "") for i in range(8000)]
    print_failures(others)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "8000 failed"
    assert lines[-1] == f"  and {8000 - MOST_CAUSES} more causes; --json prints all"
    assert len(lines) == MOST_CAUSES + 2
