from hardmil.errors import MOST_CHARS, HardmilError, SlideError


def test_a_long_message_keeps_its_beginning_and_its_end():
    message = "a.csv: found " + "x" * 100_000 + "; correct it"
    for kind in (HardmilError, SlideError):
        text = str(kind(message))
        assert len(text) < MOST_CHARS
        assert text.startswith("a.csv: found x")
        assert text.endswith("x; correct it")
        assert str(kind("a.csv: is empty")) == "a.csv: is empty"
