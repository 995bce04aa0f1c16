"""The columns of a table of slides that say which classes a slide has, where it may have several."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from hardmil.config.task import TaskConfig
from hardmil.errors import TableError
from hardmil.files.user_table import UserTable, read_user_table

YES, NO = "1", "0"


def columns_of_yes_and_no(path: Path, *, taken: Collection[str]) -> tuple[str, ...]:
    """The columns of a table of slides with 1 or 0 on every line, in their order.

    If there are several, they may be classes. There are none if the table has a column label.

    Args:
        path: The table.
        taken: Names of columns that have another meaning, in lower case.

    Raises:
        TableError: If it is not a table.
    """
    table = read_user_table(path, what="a table of slides")
    if not table.lines or "label" in {name.lower() for name in table.header}:
        return ()
    others = (name for name in table.header if name and name.lower() not in taken)
    return tuple(name for name in others if all(cells[name] in (YES, NO) for _, cells in table.lines))


def class_labels(
    table: UserTable,
    classes: Sequence[str],
    *,
    slide_ids: Sequence[str],
    taken: Collection[str],
    required: bool,
) -> tuple[str | None, ...]:
    """The label of each slide as text, see `TaskConfig.label_text`; None where it has none.

    Args:
        table: The table of slides, with a column for each class: 1 where a slide has it, 0 where not.
        classes: Their names.
        slide_ids: The slide of each line, for messages.
        taken: Names of columns that have another meaning, in lower case.
        required: Whether every slide must have a label, and each class must be on some slides and not on
            others. If not, the table may have none of the columns, and a slide may have all of them empty.

    Raises:
        TableError: If a column is missing, or a cell is neither 1 nor 0; slide and column are named.
    """
    columns = _columns(table, classes, taken=taken, required=required)
    if not columns:
        return (None,) * len(table.lines)
    task = TaskConfig(names=tuple(classes), multi_label=True)
    found = [
        _label(cells, columns=columns, task=task, where=f"{table.path}, line {line}: slide {slide_id}")
        for (line, cells), slide_id in zip(table.lines, slide_ids, strict=True)
    ]
    if required:
        _check_known(found, table=table, slide_ids=slide_ids, columns=columns)
        _check_both_occur([label for label in found if label is not None], task=task, path=table.path)
    return tuple(None if label is None else task.label_text(label) for label in found)


def _columns(
    table: UserTable, classes: Sequence[str], *, taken: Collection[str], required: bool
) -> dict[str, str]:
    """The table's name of the column of each class; empty where it has none of them and need not."""
    by_lower = {name.lower(): name for name in table.header}
    for name in classes:
        if name.lower() in taken:
            raise TableError(
                f"{table.path}: class {name} of study.yaml has the name of another column; expected a name "
                "of its own; rename the class"
            )
    missing = [name for name in classes if name.lower() not in by_lower]
    if len(missing) == len(classes) and not required:
        return {}
    if missing:
        label = "; the column label is not used with multi_label" if "label" in by_lower else ""
        raise TableError(
            f"{table.path}: no column {' and no column '.join(missing)}; found {', '.join(table.header)}; "
            f"expected a column for each class, {', '.join(classes)}, with {YES} or {NO} for each slide"
            f"{label}; add it"
        )
    return {name: by_lower[name.lower()] for name in classes}


def _label(
    cells: Mapping[str, str], *, columns: Mapping[str, str], task: TaskConfig, where: str
) -> int | None:
    """The label of a line; None where all its cells are empty."""
    values = [cells[columns[name]] for name in task.names]
    if not any(values):
        return None
    for name, value in zip(task.names, values, strict=True):
        if value not in (YES, NO):
            found = f'"{value}"' if value else "an empty cell"
            raise TableError(
                f"{where}: column {columns[name]} has {found}; expected {YES} if the slide has {name}, or "
                f"{NO} if not; correct it"
            )
    return sum(1 << k for k, value in enumerate(values) if value == YES)


def _check_known(
    labels: Sequence[int | None], *, table: UserTable, slide_ids: Sequence[str], columns: Mapping[str, str]
) -> None:
    for (line, _), slide_id, label in zip(table.lines, slide_ids, labels, strict=True):
        if label is None:
            raise TableError(
                f"{table.path}, line {line}: slide {slide_id}: the columns {', '.join(columns.values())} are "
                f"empty; expected {YES} or {NO} in each; fill them in, or remove the line"
            )


def _check_both_occur(labels: Sequence[int], *, task: TaskConfig, path: Path) -> None:
    for k, name in enumerate(task.names):
        n_yes = sum(task.is_yes(label, branch=k) for label in labels)
        if n_yes in (0, len(labels)):
            which = "no slide has" if n_yes == 0 else f"all {len(labels)} slides have"
            raise TableError(
                f"{path}: {which} class {name}; expected slides with it and slides without it; add some, or "
                "remove the class from `classes`"
            )
