"""tests/<part>/test_<module>.py tests src/hardmil/<part>/<module>.py."""

import ast
from pathlib import Path

import hardmil

SOURCE, TESTS = Path(hardmil.__file__).parent, Path(__file__).parent
EXCEPTIONS = {
    "test_architecture.py": "the whole of src: parts, imports, lengths",
    "test_benchmarks.py": "the scripts of benchmarks/",
    "test_coverage.py": "benchmarks/coverage.py, and what the docs say about intervals",
    "test_mil_assumption.py": "benchmarks/mil_assumption.py",
    "test_mirror.py": "the tests themselves",
    "test_python_page.py": "docs/python.md",
    "test_readme.py": "README.md",
    "bags/test_fuzz.py": "damaged files, through every reader of the part",
    "commands/test_anndata.py": "AnnData tables, from training to their columns",
    "commands/test_bad_input.py": "mistakes of users, through every command",
    "commands/test_encoders.py": "encoders, from encode to predict",
    "commands/test_many_classes.py": "studies of more than two classes, from train to mine",
    "commands/test_many_labels.py": "studies whose slides may have several classes, from doctor to mine",
    "commands/test_privacy.py": "what the outputs of all commands hold of slides, folders and ids",
    "commands/test_study_path.py": "a study, from its slides to its predictions",
    "encoders/test_encoder_files.py": "ONNX, TorchScript and torch.export files under one set of checks",
    "estimator/test_manners.py": "estimator/classifier.py once more: in scikit-learn's checks and tools",
    "evaluation/test_many_classes.py": "evaluation/trial.py and what it calls once more: many classes",
    "evaluation/test_workers.py": "evaluation/evaluation.py once more: on several workers and on Ray",
    "mil/test_branches.py": "mil/network.py, training.py and inference.py once more: many classes",
    "mil/test_many_labels.py": "mil/network.py, losses.py and training.py once more: bags of several classes",
    "mining/test_rounds.py": "mining/procedure.py once more: several rounds of mining",
    "mining/test_uses.py": "mining/procedure.py once more: injection, weights, verdicts, encoders",
    "report/test_browser.py": "the page in a browser",
    "review/test_browser.py": "the pages of the review in a browser",
    "review/test_requests.py": "all routes of the review, with random requests",
}
"""Tests without a module of their path, and what they test."""


def _tests() -> set[str]:
    return {path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py")}


def _has_module(test: str) -> bool:
    path = Path(test)
    return (SOURCE / path.parent / path.name.removeprefix("test_")).exists()


def test_each_test_file_has_a_module_of_its_path():
    assert sorted(test for test in _tests() - set(EXCEPTIONS) if not _has_module(test)) == []


def test_each_exception_is_there_and_is_one():
    assert sorted(test for test in EXCEPTIONS if test not in _tests() or _has_module(test)) == []


def test_tests_import_from_support_and_not_from_each_other():
    """What several test files use is in tests/support, under a name without an underscore."""
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests"):
                assert (node.module or "").startswith("tests.support"), f"{path}: {ast.unparse(node)}"
                assert not [one.name for one in node.names if one.name.startswith("_")], path
