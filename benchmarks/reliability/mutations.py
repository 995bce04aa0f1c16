"""Small faults that can be put into a source file: a wrong operator, number or name, or a missing part.

Left alone: messages, docstrings, annotations, decorators, f-strings and what follows `raise`. A mutation
there changes words, not results.
"""

import ast
import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

STRICT = "strict"
"""`zip` without it only differs where the lengths do: an error of the programmer, not of the data."""
Node = TypeVar("Node", bound=ast.AST)
SHOWN_CHARS = 120
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}
NAMES = {
    "min": "max",
    "any": "all",
    "argmin": "argmax",
    "minimum": "maximum",
    "zeros": "ones",
    "zeros_like": "ones_like",
    "floor": "ceil",
    "mean": "sum",
    "nanmean": "nansum",
    "sorted": "list",
    "less": "less_equal",
    "cumsum": "asarray",
    "flatnonzero": "atleast_1d",
    "extend": "count",
}
NAMES |= {
    other: name for name, other in NAMES.items() if other not in ("list", "count", "asarray", "atleast_1d")
}


@dataclass(frozen=True)
class Mutation:
    """A fault: where it is, what was there, and what is there instead; `number` counts within the file."""

    number: int
    function: str
    line: int
    before: str
    after: str


@dataclass(frozen=True, eq=False)
class _Place:
    """A node, what replaces it, and the function it is in; `without` is the argument that is left out."""

    node: ast.AST
    instead: ast.AST
    function: str
    without: str = ""


Required = Mapping[str, Collection[str]]
"""Arguments without a default by the name of a function or dataclass: a call without them always fails."""


def required_arguments(sources: Iterable[str]) -> Required:
    """Of all functions and dataclasses in these files; of two with one name, what both need."""
    found: dict[str, set[str]] = {}
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.FunctionDef):
            names = {one.arg for one in node.args.args[: len(node.args.args) - len(node.args.defaults)]}
            keywords = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            names |= {one.arg for one, default in keywords if default is None}
        elif isinstance(node, ast.ClassDef):
            fields = [one for one in node.body if isinstance(one, ast.AnnAssign) and one.value is None]
            names = {one.target.id for one in fields if isinstance(one.target, ast.Name)}
        else:
            continue
        found[node.name] = found.get(node.name, names) & names
    return found


def mutations(source: str, *, required: Required) -> list[Mutation]:
    """All mutations of a source file, in its order."""
    return [
        Mutation(i, one.function, getattr(one.node, "lineno", 0), *_difference(one))
        for i, one in enumerate(_places(ast.parse(source), required=required))
    ]


def mutated(source: str, number: int, *, required: Required) -> str:
    """The source with one of its mutations."""
    tree = ast.parse(source)
    place = next(islice(_places(tree, required=required), number, None))
    return ast.unparse(ast.fix_missing_locations(_Replace(place).visit(tree)))


class _Replace(ast.NodeTransformer):
    def __init__(self, place: _Place) -> None:
        self.place = place

    def visit(self, node: ast.AST) -> ast.AST:
        return self.place.instead if node is self.place.node else self.generic_visit(node)


def _difference(place: _Place) -> tuple[str, str]:
    """The first lines of the code before and after, shortened."""
    before, after = (
        ast.unparse(node).partition("\n")[0][:SHOWN_CHARS] for node in (place.node, place.instead)
    )
    return before, f"without {place.without}" if place.without else after


def _places(tree: ast.Module, *, required: Required) -> Iterator[_Place]:
    """Of functions only: what a module does when it is imported is mostly constants."""
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef):
            yield from _of_function(statement, statement.name, required)
        elif isinstance(statement, ast.ClassDef):
            for part in statement.body:
                if isinstance(part, ast.FunctionDef):
                    yield from _of_function(part, f"{statement.name}.{part.name}", required)


def _of_function(function: ast.FunctionDef, name: str, required: Required) -> Iterator[_Place]:
    for part in (*function.args.defaults, *filter(None, function.args.kw_defaults), *function.body):
        yield from _within(part, name, required)


def _within(node: ast.AST, name: str, required: Required) -> Iterator[_Place]:
    if isinstance(node, ast.FunctionDef):
        yield from _of_function(node, name, required)
        return
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.keyword) and node.arg == STRICT:
        return
    for change in CHANGES:
        instead = change(node)
        if instead is not None:
            yield _Place(node, ast.copy_location(instead, node), name)
    if isinstance(node, ast.Call):
        yield from _without_arguments(node, name, required)
    annotation = node.annotation if isinstance(node, ast.AnnAssign) else None
    for child in ast.iter_child_nodes(node):
        if child is not annotation:
            yield from _within(child, name, required)


def _without_arguments(call: ast.Call, name: str, required: Required) -> Iterator[_Place]:
    """The call without each of its keyword arguments that may be left out."""
    called = ast.unparse(call.func).rpartition(".")[2]
    for keyword in call.keywords:
        if keyword.arg not in (None, STRICT) and keyword.arg not in required.get(called, ()):
            others = [one for one in call.keywords if one is not keyword]
            yield _Place(call, _with(call, keywords=others), name, keyword.arg)


def _comparison(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        return _with(node, ops=[COMPARISONS[type(node.ops[0])](), *node.ops[1:]])
    return None


def _arithmetic(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in ARITHMETIC:
        is_text = isinstance(node, ast.BinOp) and isinstance(node.left, ast.JoinedStr)
        return None if is_text else _with(node, op=ARITHMETIC[type(node.op)]())
    return None


def _logic(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.BoolOp):
        return _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        return node.operand
    if isinstance(node, ast.If | ast.IfExp | ast.While) and not isinstance(node.test, ast.Compare):
        return _with(node, test=ast.UnaryOp(ast.Not(), node.test))
    return None


def _constant(node: ast.AST) -> ast.AST | None:
    if not isinstance(node, ast.Constant) or isinstance(node.value, str | bytes):
        return None
    if isinstance(node.value, bool):
        return ast.Constant(not node.value)
    return ast.Constant(node.value + 1) if isinstance(node.value, int | float) else None


def _name(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in NAMES:
            return _with(node, func=ast.Name(NAMES[node.func.id], ast.Load()))
        if isinstance(node.func, ast.Attribute) and node.func.attr in NAMES:
            return _with(node, func=_with(node.func, attr=NAMES[node.func.attr]))
    return None


def _statement(node: ast.AST) -> ast.AST | None:
    """A call whose value is not used is left out; `break` and `continue` are exchanged."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return ast.Pass()
    if isinstance(node, ast.Continue):
        return ast.Break()
    return ast.Continue() if isinstance(node, ast.Break) else None


def _with(node: Node, **fields: object) -> Node:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


CHANGES: tuple[Callable[[ast.AST], ast.AST | None], ...] = (
    _comparison,
    _arithmetic,
    _logic,
    _constant,
    _name,
    _statement,
)
