import pytest

from hardmil.config.yaml_text import yaml_value
from hardmil.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("0010", "0010"),
        ("2024-13-45", "2024-13-45"),
        ("[1, -2, 0x10, 0o10]", [1, -2, 16, 8]),
        ("[1.5, 1e-4, .5, -3.]", [1.5, 1e-4, 0.5, -3.0]),
        ("[true, False, null, ~]", [True, False, None, None]),
        ("{a: {b: '1'}}", {"a": {"b": "1"}}),
        ("", None),
    ],
)
def test_plain_values_are_those_of_yaml_1_2(text: str, value: object):
    assert yaml_value(text, source="x") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1", r"found &x, a name for a value; write the value itself in line 1, column 4"),
        ("b: *x", r"found \*x"),
        ("a: 1\na: 2", "found the key a twice; keep one of them in line 2, column 1"),
        ("p: {a: 1, b: 2, a: 3}", "found the key a twice"),
        ("a: " + "9" * 5000, "found a number of 5,000 digits; expected at most 30 in line 1"),
        ("[" * 5000, "is nested too deeply"),
        ("a: !!timestamp 2024-13-45", "month must be in 1..12"),
        ("a: !!bool x", "not readable as YAML"),
        ("a: !!python/object:os.system x", "not readable as YAML"),
        ("[a: 1", "not readable as YAML"),
    ],
)
def test_what_can_be_misread_or_grow_is_refused(text: str, message: str):
    with pytest.raises(ConfigError, match=rf"study\.yaml: .*{message}"):
        yaml_value(text, source="study.yaml")


def test_a_billion_laughs_are_refused_at_the_first():
    text = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    with pytest.raises(ConfigError, match=r"found &a0, a name for a value; .*line 1") as raised:
        yaml_value(text, source="study.yaml")
    assert len(str(raised.value)) < 300
