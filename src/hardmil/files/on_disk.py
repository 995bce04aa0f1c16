"""The path of a file that was written down on another computer."""

import os
import unicodedata
from pathlib import Path, PureWindowsPath


def on_disk(path: Path) -> Path:
    """The path as it is on this disk, if a file is there under another spelling; else the path itself.

    A letter such as u with two dots is one character (NFC), or a letter and a mark (NFD), as in file names
    from a Mac. A relative path from Windows has backslashes.
    """
    text = str(path)
    if "\\" not in text and text.isascii():
        return path
    forms = (text, PureWindowsPath(text).as_posix())
    spellings = (Path(unicodedata.normalize(kind, form)) for form in forms for kind in ("NFC", "NFD"))
    return next((one for one in (path, *spellings) if os.path.exists(one)), path)
