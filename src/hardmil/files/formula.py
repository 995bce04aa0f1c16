"""Text in tables that a spreadsheet would run as a formula: written and read with an apostrophe before it."""

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r].")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def as_text_cell(text: str) -> str:
    """The text for a cell; `plain_text` restores it.

    Numbers, and single characters such as the label -, are not formulas and stay as they are.
    """
    is_formula = _FORMULA.match(text) is not None and _NUMBER.fullmatch(text) is None
    return f"'{text}" if is_formula else text


def plain_text(cell: str) -> str:
    """The text of a cell that `as_text_cell` may have written."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
