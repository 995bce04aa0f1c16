"""--track with the trackers themselves: their own readers say what they were told."""

import builtins
import sys
from pathlib import Path

import pytest
from tests.support.studies import Hardmil, read_csv

from hardmil.errors import ConfigError
from hardmil.tracking import LossByEpoch, TrackWith, tracked


class _Kept:
    def __init__(self) -> None:
        self.metrics: list[tuple[str, float, int]] = []

    def params(self, content: object) -> None: ...

    def metric(self, name: str, value: float, *, step: int = 0) -> None:
        self.metrics.append((name, value, step))

    def artifact(self, path: Path) -> None: ...


def test_each_training_has_a_curve_of_its_own():
    kept = _Kept()
    tell = LossByEpoch(kept)
    for epoch, loss in ((0, 0.7), (1, 0.6), (0, 0.5), (1, 0.4), (0, 0.3)):
        tell(epoch, loss)
    names = [name for name, _, _ in kept.metrics]
    assert names == [f"loss/training-0{n}" for n in (1, 1, 2, 2, 3)]
    assert [(loss, step) for _, loss, step in kept.metrics][:3] == [(0.7, 0), (0.6, 1), (0.5, 0)]


@pytest.mark.parametrize("name", ["mlflow", "tensorboard"])
def test_a_missing_package_is_named_with_what_to_install(
    name: TrackWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = builtins.__import__

    def without(wanted: str, *rest: object, **more: object) -> object:
        if wanted.startswith(("mlflow", "torch.utils.tensorboard")):
            raise ImportError(wanted)
        return real(wanted, *rest, **more)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(builtins, "__import__", without)
    with (
        pytest.raises(ConfigError, match=rf"pip install 'hardmil\[{name}\]'"),
        tracked(name, folder=tmp_path, name="x"),
    ):
        pass


def test_nothing_is_tracked_by_default(tmp_path: Path):
    with tracked(None, folder=tmp_path, name="x") as tracker:
        tracker.metric("auc", 0.5)
        tracker.artifact(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")  # of MLflow's own use of SQLAlchemy
def test_mlflow_gets_settings_losses_arms_and_report(
    hardmil: Hardmil, feature_study: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("mlflow", reason="needs hardmil[mlflow]")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    arms = ["--set", "evaluation.arms=[abmil]"]
    assert (run := hardmil("train", feature_study, "--track", "mlflow")).code == 0, run.err
    assert (run := hardmil("evaluate", feature_study, *arms, "--track", "mlflow")).code == 0, run.err
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{feature_study.resolve() / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == feature_study.name]
    runs = {one.info.run_name: one for one in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"train ours", "evaluate main"}
    trained, evaluated = runs["train ours"], runs["evaluate main"]
    assert trained.data.params["training.epochs"] == "15"
    history = client.get_metric_history(trained.info.run_id, "loss/training-01")
    assert len(history) == 15
    assert history[-1].value < history[0].value
    (arm,) = read_csv(feature_study / "runs" / "main" / "summary.csv")[:1]
    assert evaluated.data.metrics["abmil/auc"] > 0.5
    assert arm["arm"] == "abmil"
    files = {one.path for one in client.list_artifacts(evaluated.info.run_id)}
    assert files == {"report.html", "results.csv", "summary.csv"}
    assert trained.info.status == evaluated.info.status == "FINISHED"


def test_tensorboard_gets_them_too(hardmil: Hardmil, feature_study: Path):
    pytest.importorskip("tensorboard", reason="needs hardmil[tensorboard]")
    assert (run := hardmil("train", feature_study, "--track", "tensorboard")).code == 0, run.err
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(feature_study / "tensorboard" / "train-ours"))
    events.Reload()
    losses = [one.value for one in events.Scalars("loss/training-01")]
    assert len(losses) == 15
    assert losses[-1] < losses[0]
    assert "params/text_summary" in events.Tags()["tensors"]
    assert "mlflow" not in sys.modules or not (feature_study / "mlflow.db").exists()
