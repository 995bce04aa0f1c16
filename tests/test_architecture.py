import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import hardmil

SOURCE = Path(hardmil.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"


def _lines_of_parts() -> list[tuple[str, ...]]:
    """The parts on each line of the table in docs/architecture.md, from the lowest layer up."""
    table = PAGE.read_text().split("<!-- parts -->")[1].split("<!-- end of parts -->")[0]
    cells = [line.split("|")[2] for line in table.strip().splitlines()[2:]]
    return [tuple(re.findall(r"`([a-z_]+)(?:\.py|/)`", cell)) for cell in cells]


LAYERS = {part: layer for layer, parts in enumerate(_lines_of_parts()) for part in parts}
WITHOUT_TORCH = ("errors", "geometry", "metrics", "config", "files", "jobs", "slides", "phantom")
HEAVY = ("torch", "sklearn", "scipy", "cv2", "matplotlib")
LISTINGS = ("glob", "rglob", "iterdir", "listdir", "scandir")
"""Functions that list a folder."""
MODULES = [path for path in FILES if path.name != "__init__.py"]


def _name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def _imports(path: Path) -> Iterator[str]:
    """Full names of the modules a file imports anywhere in it, `hardmil.` of ours left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name.removeprefix("hardmil.") for name in names)


def _ours(path: Path) -> list[str]:
    return [name for name in _imports(path) if name.split(".")[0] in LAYERS]


def test_the_table_of_parts_lists_just_the_parts_there_are():
    assert {_name(path).split(".")[0] for path in FILES if path.parent != SOURCE or path in MODULES} == set(
        LAYERS
    )


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_parts_import_from_lower_layers_only(path: Path):
    here = _name(path).split(".")[0]
    parts = {name.split(".")[0] for name in _ours(path)} - {here}
    assert [part for part in parts if LAYERS[part] >= LAYERS[here]] == []


def test_no_cycles_inside_a_part():
    # static_order raises CycleError, which names the cycle.
    known = {_name(path) for path in MODULES}
    graph = {_name(path): known.intersection(_ours(path)) for path in MODULES}
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("bags.bag") < order.index("mil.training") < order.index("evaluation.trial")


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_listings_of_folders_leave_out_hidden_files(path: Path):
    """Drafts of atomic writes and locks are hidden files next to the real ones; `hidden` looks for them."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    filtered = {arg for call in calls if ast.unparse(call.func) in ("visible", "hidden") for arg in call.args}
    listing = {call for call in calls if ast.unparse(call.func).split(".")[-1] in LISTINGS}
    assert [ast.unparse(call) for call in listing - filtered] == []


@pytest.mark.parametrize(
    "path", [path for path in FILES if _name(path).split(".")[0] in WITHOUT_TORCH], ids=_name
)
def test_no_torch_where_there_are_no_networks(path: Path):
    assert not any(name.split(".")[0] in ("torch", "mil", "mining") for name in _imports(path))


PACKAGES = [path for path in FILES if path.name == "__init__.py"]
LAZY = """import lazy_loader
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)"""


@pytest.mark.parametrize("path", PACKAGES, ids=_name)
def test_packages_hold_a_docstring_and_re_exports(path: Path):
    """Two lines on what the part knows, then its public names; nothing else."""
    tree = ast.parse(path.read_text())
    assert (ast.get_docstring(tree) or "").count("\n") >= 2
    stub = path.with_suffix(".pyi")
    if stub.exists():
        assert "\n".join(map(ast.unparse, tree.body[1:])) == LAZY
    for node in ast.parse(stub.read_text()).body if stub.exists() else tree.body[1:]:
        assert isinstance(node, ast.ImportFrom), ast.unparse(node)
        assert all(alias.asname == alias.name for alias in node.names), ast.unparse(node)


@pytest.mark.parametrize("path", [path for path in PACKAGES if path.with_suffix(".pyi").exists()], ids=_name)
def test_names_that_are_imported_later_are_there(path: Path):
    package = import_module(f"hardmil.{_name(path)}".removesuffix(".__init__"))
    assert len(package.__all__) > 1
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


def _is_broad(handler: ast.ExceptHandler) -> bool:
    """Whether it catches errors of any kind and does not raise them again."""
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {ast.unparse(kind).removeprefix("builtins.") for kind in kinds}
    if "Exception" in names:
        return True
    raises = [node for node in ast.walk(handler) if isinstance(node, ast.Raise) and node.exc is None]
    return "BaseException" in names and not raises


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_errors_of_any_kind_are_caught_in_jobs_only(path: Path):
    handlers = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ExceptHandler)]
    lines = [handler.lineno for handler in handlers if _is_broad(handler)]
    assert lines == [] or _name(path).startswith("jobs.")


@pytest.mark.parametrize(
    ("clause", "is_broad"),
    [
        ("except:\n raise", True),
        ("except Exception:\n raise", True),
        ("except (ValueError, builtins.Exception) as e:\n pass", True),
        ("except BaseException:\n pass", True),
        ("except BaseException:\n close()\n raise", False),
        ("except (OSError, ValueError):\n pass", False),
    ],
)
def test_which_clauses_are_broad(clause: str, is_broad: bool):
    (handler,) = [node for node in ast.walk(ast.parse(f"try:\n x()\n{clause}")) if hasattr(node, "type")]
    assert isinstance(handler, ast.ExceptHandler)
    assert _is_broad(handler) == is_broad


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_files_and_functions_are_short(path: Path):
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            docstring = ast.get_docstring(node, clean=False) or ""
            n_lines = (node.end_lineno or 0) - node.lineno + 1 - (docstring.count("\n") + bool(docstring))
            assert n_lines <= 60, f"{node.name} has {n_lines} lines"


def test_importing_the_command_line_brings_nothing_heavy():
    code = f"import sys, hardmil.cli; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("command", "too_heavy"),
    [
        ("patch", ("torch", "sklearn")),
        ("encode", ("torch", "sklearn")),
        ("train", ("matplotlib", "sklearn")),
        ("predict", ("sklearn",)),
    ],
)
def test_commands_bring_no_more_than_they_need(command: str, too_heavy: tuple[str, ...]):
    imported = f"import sys, hardmil.commands.{command}"
    code = f"{imported}; print([name for name in {too_heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_package_brings_the_classifier_when_it_is_asked_for():
    code = (
        "import sys, hardmil; print('torch' in sys.modules); "
        "from hardmil import MILClassifier; print(MILClassifier.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\nhardmil.estimator.classifier\n"
    with pytest.raises(AttributeError, match="nothing"):
        _ = hardmil.nothing
