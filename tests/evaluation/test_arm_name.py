import pytest

from hardmil.evaluation.arm_name import Use, parse_arm_name, with_controls


def test_the_parts_of_a_name():
    name = parse_arm_name("abmil+instance+fmb-equal-oof@random")
    assert name.text == "abmil+instance+fmb-equal-oof@random"
    assert name.base == "abmil"
    assert name.uses == (Use("instance", ()), Use("fmb", ("equal", "oof")))
    assert name.control == "random"


@pytest.mark.parametrize(
    ("text", "base", "options"),
    [
        ("ours-top5", "ours", ("top5",)),
        ("noisy-and-mean+instance", "noisy-and", ("mean",)),
        ("ours-", "ours", ("",)),
        ("noisy-andy", "noisy", ("andy",)),
        ("ours+fmb-oof", "ours", ()),
    ],
)
def test_the_options_of_a_base(text: str, base: str, options: tuple[str, ...]):
    name = parse_arm_name(text)
    assert (name.base, name.base_options) == (base, options)


@pytest.mark.parametrize("text", ["ours", "noisy-and", "sdr-svm"])
def test_a_base_keeps_its_hyphen(text: str):
    name = parse_arm_name(text)
    assert (name.base, name.uses, name.control) == (text, (), None)


@pytest.mark.parametrize(
    ("text", "mines", "is_control"),
    [
        ("ours", False, False),
        ("ours+instance", False, False),
        ("ours+verdicts-10", False, False),
        ("ours+sb", True, False),
        ("ours+instance+weigh-oof", True, False),
        ("ours+inject-positive", True, False),
        ("ours+mb@random", True, True),
        ("ours+fmb@", True, True),
    ],
)
def test_which_names_mine_and_which_are_controls(text: str, mines: bool, is_control: bool):
    name = parse_arm_name(text)
    assert (name.mines, name.is_control) == (mines, is_control)


@pytest.mark.parametrize(
    ("text", "uses"), [("ours+instance+verdicts-3", True), ("ours+verdicts", True), ("ours+pseudo", False)]
)
def test_which_names_use_verdicts(text: str, uses: bool):
    assert parse_arm_name(text).uses_verdicts == uses


def test_unknown_parts_are_kept_for_the_error():
    name = parse_arm_name("our+fbm-of+@rand")
    assert name.base == "our"
    assert name.uses == (Use("fbm", ("of",)), Use("", ()))
    assert name.control == "rand"


def test_the_control_of_an_arm_is_found_by_its_name():
    control = parse_arm_name(parse_arm_name("ours+fmb-oof").its_control)
    assert (control.text, control.base, control.control) == ("ours+fmb-oof@random", "ours", "random")


def test_an_arm_that_mines_brings_its_control():
    names = ("ours", "ours+fmb-oof", "ours+instance", "ours+sb@random", "ours+sb", "ours+instance+weigh-oof")
    assert with_controls(names) == (
        *("ours", "ours+fmb-oof", "ours+fmb-oof@random", "ours+instance", "ours+sb@random", "ours+sb"),
        *("ours+instance+weigh-oof", "ours+instance+weigh-oof@random"),
    )


def test_arms_that_do_not_mine_get_no_control():
    names = ("noisy-and", "ours+verdicts-10", "ours")
    assert with_controls(names) == names


def test_each_arm_is_named_once():
    assert with_controls(("ours", "ours+sb", "ours")) == ("ours", "ours+sb", "ours+sb@random")


@pytest.mark.parametrize(
    ("text", "is_centred"),
    [
        ("ours", True),
        ("mean+instance", True),
        ("ours-masktop-seeds5", True),
        ("ours-top5", False),
        ("abmil-masktop-mean+instance", False),
        ("em", False),
        ("auto", False),
    ],
)
def test_for_which_arms_a_score_of_a_half_means_even_odds(text: str, is_centred: bool):
    assert parse_arm_name(text).is_centred == is_centred


def test_an_arm_that_judges_its_own_instances_brings_its_control():
    assert with_controls(("ours+pseudo", "em")) == ("ours+pseudo", "ours+pseudo@random", "em")
    assert not parse_arm_name("ours+pseudo").mines
