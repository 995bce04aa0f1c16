"""`hardmil init DIR`: a commented study.yaml and a slides.csv to fill in."""

from pathlib import Path

from hardmil.config.study import StudyConfig
from hardmil.config.study_file import FILE_NAME, commented_yaml
from hardmil.errors import StoreError
from hardmil.files.atomic import write_atomically
from hardmil.jobs.outcome import Outcome

TABLE = "slide_id,case_id,label,path,mpp\n"


def init(folder: Path) -> Outcome:
    """Write both files; existing files stay unchanged.

    Raises:
        StoreError: If the folder is a file, or is not writable.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder}: is a file; expected a folder; choose another name")
    files = {FILE_NAME: commented_yaml(StudyConfig()), "slides.csv": TABLE}
    lines = [_write(folder / name, text) for name, text in files.items()]
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
