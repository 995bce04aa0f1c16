import os
from pathlib import Path

import pytest

from hardmil.budget import FREE_BYTES, RATIO, not_a_file, read_bytes, read_text, shown, too_large


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe, whose reading would wait until somebody writes."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_a_pipe_and_a_device_are_not_opened(pipe: Path):
    assert not_a_file(pipe) == "a named pipe"
    assert not_a_file(Path("/dev/zero")) == "a device"
    assert not_a_file(pipe.parent) is None
    with pytest.raises(OSError, match="named pipe, expected a file"):
        read_bytes(pipe, most=10)
    with pytest.raises(FileNotFoundError):
        read_bytes(pipe.parent / "missing", most=10)


def test_a_file_is_read_up_to_its_limit(tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"a\r\nb")
    assert read_bytes(path, most=4) == b"a\r\nb"
    assert read_text(path, most=4) == "a\nb"
    with pytest.raises(OSError, match="4 bytes, expected at most 3"):
        read_bytes(path, most=3)


def test_a_sparse_file_is_refused_by_the_size_that_it_states(tmp_path: Path):
    with (tmp_path / "a").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="1,099,511,627,776 bytes"):
        read_bytes(tmp_path / "a", most=1 << 20)


def test_an_array_may_be_small_or_as_large_as_its_file_is_worth(tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"1")
    assert too_large(FREE_BYTES, path=path) is None
    assert str(too_large(FREE_BYTES + 1, path=path)).startswith(
        "536,870,913 bytes in memory, from a file of 1 b"
    )
    with path.open("wb") as file:
        file.truncate(FREE_BYTES)
    assert too_large(RATIO * FREE_BYTES, path=path) is None
    assert too_large(RATIO * FREE_BYTES + 1, path=path) is not None


def test_a_long_value_is_cut():
    assert shown("a" * 10) == "'aaaaaaaaaa'"
    assert shown("a" * 1000) == "'" + "a" * 199 + "... (1,002 characters)"
