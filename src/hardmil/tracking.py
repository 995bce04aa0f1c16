"""Logging to MLflow or TensorBoard: settings, losses by epoch, the numbers of arms, the report."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from hardmil.errors import ConfigError
from hardmil.stopping import undone_at_stop

TrackWith = Literal["mlflow", "tensorboard"]
STORE = "mlflow.db"
LONGEST_PARAM = 500
"""Characters; older MLflow servers refuse longer values."""


@runtime_checkable
class Tracker(Protocol):
    """What a run logs."""

    def params(self, content: Mapping[str, object]) -> None:
        """Log the settings, nested as in study.yaml."""
        ...

    def metric(self, name: str, value: float, *, step: int = 0) -> None:
        """Log a number; NaN is left out."""
        ...

    def artifact(self, path: Path) -> None:
        """Log a file."""
        ...


@contextmanager
def tracked(with_: TrackWith | None, *, folder: Path, name: str) -> Iterator[Tracker]:
    """A tracker for the run `name` of a study; one that does nothing where `with_` is None.

    MLflow writes to the server in MLFLOW_TRACKING_URI, or to `mlflow.db` in the study's folder; TensorBoard
    writes to `tensorboard/` there. Nothing leaves this machine unless that variable is set.

    Raises:
        ConfigError: If the package of the tracker is not installed.
    """
    match with_:
        case None:
            yield _Nothing()
        case "mlflow":
            with _mlflow(folder, name=name) as tracker:
                yield tracker
        case "tensorboard":
            with _tensorboard(folder, name=name) as tracker:
                yield tracker


class _Nothing:
    def params(self, content: Mapping[str, object]) -> None: ...

    def metric(self, name: str, value: float, *, step: int = 0) -> None: ...

    def artifact(self, path: Path) -> None: ...


@contextmanager
def _mlflow(folder: Path, *, name: str) -> Iterator[Tracker]:
    # MLflow sends usage statistics unless it is told not to.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow
    except ImportError as error:
        raise _not_installed("mlflow") from error
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri(f"sqlite:///{(folder / STORE).resolve()}")
        artifacts = (folder / "mlartifacts").resolve().as_uri()
        experiment = folder.resolve().name
        if mlflow.get_experiment_by_name(experiment) is None:
            mlflow.create_experiment(experiment, artifact_location=artifacts)
    mlflow.set_experiment(folder.resolve().name)

    class MLflow:
        def params(self, content: Mapping[str, object]) -> None:
            mlflow.log_params({key: value[:LONGEST_PARAM] for key, value in _flat(content).items()})

        def metric(self, name: str, value: float, *, step: int = 0) -> None:
            if not math.isnan(value):
                mlflow.log_metric(name, value, step=step)

        def artifact(self, path: Path) -> None:
            mlflow.log_artifact(str(path))

    with mlflow.start_run(run_name=name), undone_at_stop(partial(mlflow.end_run, "KILLED")):
        yield MLflow()


@contextmanager
def _tensorboard(folder: Path, *, name: str) -> Iterator[Tracker]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise _not_installed("tensorboard") from error
    writer = SummaryWriter(str(folder / "tensorboard" / name.replace(" ", "-")))

    class TensorBoard:
        def params(self, content: Mapping[str, object]) -> None:
            rows = "\n".join(f"| {key} | {value} |" for key, value in _flat(content).items())
            writer.add_text("params", f"| setting | value |\n| --- | --- |\n{rows}")

        def metric(self, name: str, value: float, *, step: int = 0) -> None:
            if not math.isnan(value):
                writer.add_scalar(name, value, step)

        def artifact(self, path: Path) -> None:
            writer.add_text("files", str(path))

    try:
        yield TensorBoard()
    finally:
        writer.close()


class LossByEpoch:
    """Logs the loss of every epoch, one curve for each training: base, second, inner folds."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._n_trainings = 0
        self._last = math.inf

    def __call__(self, epoch: int, loss: float) -> None:
        """Log an epoch; an epoch number that does not increase starts another training."""
        if epoch <= self._last:
            self._n_trainings += 1
        self._last = epoch
        self._tracker.metric(f"loss/training-{self._n_trainings:02d}", loss, step=epoch)


def _flat(content: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = str(value)
    return found


def _not_installed(name: str) -> ConfigError:
    return ConfigError(f"--track {name} needs a package that is not installed: pip install 'hardmil[{name}]'")
