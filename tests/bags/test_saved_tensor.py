import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hardmil.bags.saved_tensor import read_saved_tensor
from hardmil.errors import FeatureFileError

VALUES = torch.arange(12, dtype=torch.float32).reshape(4, 3) / 2


def _saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "convert",
    [
        lambda: torch.quantize_per_tensor(VALUES, 0.5, 0, torch.qint8),
        lambda: VALUES.to(torch.float8_e4m3fn),
        lambda: VALUES.to(torch.bfloat16),
        lambda: VALUES.to_sparse(),
    ],
    ids=["qint8", "float8", "bfloat16", "sparse"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensors_of_types_that_numpy_lacks_are_read(tmp_path: Path, convert: Callable[[], torch.Tensor]):
    np.testing.assert_array_equal(read_saved_tensor(_saved(tmp_path / "a.pt", convert())), VALUES.numpy())


def test_bits_without_values_are_refused(tmp_path: Path):
    path = _saved(tmp_path / "a.pt", torch.zeros(4, 3, dtype=torch.uint8).view(torch.bits8))
    with pytest.raises(FeatureFileError, match=r"a\.pt: holds a tensor of bits8 .*expected float32"):
        read_saved_tensor(path)


def test_a_compressed_file_is_refused_by_its_unpacked_size(tmp_path: Path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("a/data/0", "w") as part:
        for _ in range(600):
            part.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(
        FeatureFileError, match=r"a\.pt: unpacks to 629,145,600 bytes in memory, from a file of"
    ):
        read_saved_tensor(path)


def test_a_tensor_of_one_number_repeated_is_refused_by_its_size(tmp_path: Path):
    path = _saved(tmp_path / "a.pt", torch.zeros(1).expand(1 << 30, 1024))
    with pytest.raises(
        FeatureFileError, match=r"its tensor of \(1073741824, 1024\) takes 4,398,046,511,104 bytes"
    ):
        read_saved_tensor(path)


def test_places_outside_of_a_sparse_tensor_are_refused(tmp_path: Path):
    stream = io.BytesIO()
    places = torch.tensor([[0, 1_234_567_891], [0, 1]])
    torch.save(
        torch.sparse_coo_tensor(places, torch.ones(2), (4_000_000_000, 3), check_invariants=True), stream
    )
    size, small = (4_000_000_000).to_bytes(8, "little"), (4).to_bytes(8, "little")
    content = stream.getvalue().replace(b"\x8a\x05" + size[:5], b"\x8a\x05" + small[:5])
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(FeatureFileError, match=r"a\.pt: "):
        read_saved_tensor(tmp_path / "a.pt")


def test_a_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "a.pt")
    with pytest.raises(FeatureFileError, match=r"a\.pt: cannot be read .*a named pipe"):
        read_saved_tensor(tmp_path / "a.pt")
