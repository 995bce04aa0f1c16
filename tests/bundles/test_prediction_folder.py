"""A prediction does not mix with an earlier one."""

from pathlib import Path

from hardmil.bundles.prediction_folder import free_folder, remove_earlier
from hardmil.files.run_record import write_run_record


def _predict(folder: Path, slide: str) -> None:
    (folder / "heatmaps").mkdir(parents=True)
    (folder / "heatmaps" / f"{slide}.png").touch()
    (folder / "predictions.csv").touch()
    (folder / "metrics.json").touch()
    write_run_record(folder, "hardmil predict", config={}, seed=None, started=0.0)


def test_a_new_folder_beside_those_that_hold_a_prediction(tmp_path: Path):
    wanted = tmp_path / "predictions"
    assert free_folder(wanted) == wanted
    wanted.mkdir()
    assert free_folder(wanted) == wanted, "an empty folder holds none"
    _predict(wanted, "a")
    _predict(tmp_path / "predictions-2", "a")
    assert free_folder(wanted) == tmp_path / "predictions-3"


def test_pictures_of_an_earlier_prediction_are_removed_and_other_files_stay(tmp_path: Path):
    (tmp_path / "notes.txt").touch()
    remove_earlier(tmp_path)
    _predict(tmp_path, "a")
    remove_earlier(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_of_the_user_or_of_another_command_is_left_alone(tmp_path: Path):
    (tmp_path / "heatmaps").mkdir()
    (tmp_path / "heatmaps" / "mine.png").touch()
    remove_earlier(tmp_path)
    (tmp_path / "predictions.csv").touch()
    write_run_record(tmp_path, "hardmil evaluate", config={}, seed=0, started=0.0)
    remove_earlier(tmp_path)
    assert (tmp_path / "heatmaps" / "mine.png").exists()
    assert (tmp_path / "predictions.csv").exists()
