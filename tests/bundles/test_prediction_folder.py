from pathlib import Path

from hardmil.bundles.prediction_folder import free_folder


def test_a_new_folder_beside_those_that_hold_a_prediction(tmp_path: Path):
    wanted = tmp_path / "predictions"
    assert free_folder(wanted) == wanted
    wanted.mkdir()
    assert free_folder(wanted) == wanted, "an empty folder holds none"
    for folder in (wanted, tmp_path / "predictions-2"):
        folder.mkdir(exist_ok=True)
        (folder / "predictions.csv").touch()
    assert free_folder(wanted) == tmp_path / "predictions-3"
