from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.many_classes import write_class_study
from tests.support.studies import Hardmil

from hardmil.errors import ConfigError
from hardmil.mining.verdict_store import FILE_NAME, VerdictStore
from hardmil.preprocessing.study_folder import Study, open_study
from hardmil.review.exchange import export_verdicts, import_verdicts
from hardmil.review.retraining import retrain
from hardmil.review.workspace import open_workspace


def _export(study: Study) -> None:
    with VerdictStore(study.folder / FILE_NAME) as store:
        export_verdicts(store, folder=study.folder, study=study)


def _import(study: Study) -> None:
    with VerdictStore(study.folder / FILE_NAME) as store:
        import_verdicts(store, files=[], study=study)


@pytest.mark.parametrize("step", [open_workspace, retrain, _export, _import])
def test_a_study_of_three_classes_is_refused(tmp_path: Path, step: Callable[[Study], object]):
    study = open_study(write_class_study(tmp_path / "study", n=3))
    with pytest.raises(ConfigError, match=r"study: 3 classes; expected two, because a verdict"):
        step(study)


def test_the_command_says_what_to_do(hardmil: Hardmil, tmp_path: Path):
    run = hardmil("review", write_class_study(tmp_path / "study", n=3))
    assert run.code == 1
    assert "look at the hard negatives of each class with hardmil mine, or in report.html" in run.err
