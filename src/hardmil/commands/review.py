"""`hardmil review STUDY` without its server: verdicts out and in, and a round of training with them."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hardmil.files.atomic import prepare_folder
from hardmil.jobs.outcome import Outcome
from hardmil.jobs.pool import LOCAL, Engine
from hardmil.mining.verdict_store import FILE_NAME, VerdictStore
from hardmil.preprocessing.study_folder import open_study
from hardmil.review.exchange import export_verdicts, import_verdicts
from hardmil.review.retraining import retrain as run_round
from hardmil.review.rounds import read_rounds, round_words, rounds_path
from hardmil.words import count


def without_server(
    path: Path,
    *,
    run: str,
    files: Sequence[Path] = (),
    reviewer: str = "",
    export_to: Path | None = None,
    retraining: bool = False,
    overrides: Sequence[str] = (),
    device: str | None = None,
    engine: Engine = LOCAL,
    quiet: bool = False,
) -> Outcome:
    """What was asked for, in this order: take verdicts in, train with them, write them to a folder."""
    done: list[Outcome] = []
    if files:
        done.append(take_in(path, files=files, reviewer=reviewer, overrides=overrides))
    if retraining:
        done.append(retrain(path, run=run, overrides=overrides, device=device, engine=engine, quiet=quiet))
    if export_to is not None:
        done.append(export(path, folder=export_to, overrides=overrides))
    return Outcome(
        lines=[line for one in done for line in one.lines],
        values={key: value for one in done for key, value in one.values.items()},
        failures=[failure for one in done for failure in one.failures],
        log=next((one.log for one in done if one.log), None),
    )


def export(path: Path, *, folder: Path, overrides: Sequence[str] = ()) -> Outcome:
    """Write the verdicts of a study to a folder, as a table and as QuPath's GeoJSON."""
    study = open_study(path, overrides=overrides)
    prepare_folder(folder)
    with VerdictStore(study.folder / FILE_NAME) as store:
        written = export_verdicts(store, folder=folder, study=study)
        n = len(store.standing())
    table, *regions = written
    lines = [f"{count(n, 'verdict')}: {table}"]
    lines += [f"for QuPath: {count(len(regions), 'slide')} in {folder}"] if regions else []
    return Outcome(lines, {"n_verdicts": n, "exported": [str(one) for one in written]})


def take_in(
    path: Path, *, files: Sequence[Path], reviewer: str = "", overrides: Sequence[str] = ()
) -> Outcome:
    """Add the verdicts in tables and GeoJSON files, and say what matched and what did not."""
    study = open_study(path, overrides=overrides)
    with VerdictStore(study.folder / FILE_NAME) as store:
        report = import_verdicts(store, files=files, study=study, reviewer=reviewer)
    return Outcome(report.lines, {"imported": [asdict(one) for one in report.files]})


def retrain(
    path: Path,
    *,
    run: str,
    overrides: Sequence[str] = (),
    device: str | None = None,
    engine: Engine = LOCAL,
    quiet: bool = False,
) -> Outcome:
    """Train the study's arm with and without the verdicts, and measure their effect."""
    study = open_study(path, overrides=overrides)
    found = run_round(study, run=run, device=device, engine=engine, quiet=quiet)
    earlier = [
        f"  round {one.number}, {one.n_verdicts} patches: FPR {one.fpr:.3f} without, {one.fpr_with:.3f} with"
        for one in read_rounds(study)[: found.round.number - 1]
    ]
    lines = [
        *found.notes,
        *round_words(found.round),
        *(["earlier rounds:", *earlier] if earlier else []),
        f"report: {found.report}",
        f"all rounds: {rounds_path(study)}",
    ]
    return Outcome(lines, {"round": asdict(found.round)}, found.failures, found.log)
