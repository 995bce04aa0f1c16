"""`hardmil reproduce colon|ucsb --data DIR`: the paper's table beside ours."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hardmil.bags.bag import Bag
from hardmil.bags.bag_file import read_bag, write_bag
from hardmil.bags.folds import repeated_folds
from hardmil.commands.arms_table import arms_table, arms_values, comparison_lines
from hardmil.commands.evaluate import check_any_done
from hardmil.config.model import resolve_config
from hardmil.config.study import PIXELS, StudyConfig, instance_config, model_config
from hardmil.config.study_file import parse_study, put_overrides
from hardmil.device import find_device
from hardmil.encoders.open_encoder import encoder_of
from hardmil.errors import ConfigError
from hardmil.evaluation.arms import Arm, arm, with_controls
from hardmil.evaluation.cohort import make_cohort
from hardmil.evaluation.evaluation import Evaluation, evaluate_arms, patches_word, valid_rows
from hardmil.evaluation.trial import operating_settings
from hardmil.files.csv_table import read_rows
from hardmil.files.run_record import write_run_record
from hardmil.jobs.failures import Failure, write_failures
from hardmil.jobs.outcome import Outcome
from hardmil.jobs.pool import LOCAL, Engine
from hardmil.jobs.progress import progress
from hardmil.paper.datasets import published_config, read_published
from hardmil.paper.images import PublishedSet
from hardmil.paper.tables import PAPER, PAPER_ARMS
from hardmil.preprocessing.instances import encoded
from hardmil.report.assemble import Page, write_evaluation_report
from hardmil.statistics.tables import write_statistics

FOLDS = {"colon": 10, "ucsb": 4}
REPEATS = 5
GROUPS_NOTE = (
    "The 41 cases are fields of at most 9 patients, who are not known: the 95% intervals are too narrow, "
    "and even this split may leak."
)
IMAGES_NOTE = (
    "Each image is taken for a case, though patients have several: the 95% intervals are too narrow, and "
    "this split may leak."
)


@dataclass(frozen=True)
class Reproduction:
    """What part of the paper's protocol to run; None is the paper's."""

    folds: int | None = None
    repeats: int | None = None
    epochs: int | None = None
    arms: tuple[str, ...] | None = None
    split: str = "image"
    patches: str = "grid"
    encoder: str | None = None
    only_folds: tuple[int, ...] | None = None


def reproduce(
    name: str,
    *,
    data: Path,
    output: Path,
    asked: Reproduction,
    overrides: Sequence[str] = (),
    device: str | None = None,
    engine: Engine = LOCAL,
    quiet: bool = False,
) -> Outcome:
    """Run the paper's arms on its set, one row a (arm, repeat, fold); rows under an equal hash are kept.

    Raises:
        ConfigError: If the set, the split or an arm is not known.
        TableError: If the set is not in the folder.
        JobError: If no trial could be done.
    """
    started = time.time()
    config = reproduction_config(name, asked=asked, overrides=overrides)
    published = read_published(name, folder=data, split=asked.split, config=config.patches)
    bags = _instances(published, config=config, device=device or "auto", output=output, quiet=quiet)
    cohort = make_cohort(bags, truth=published.truth)
    folds = repeated_folds(
        cohort.labels,
        cohort.cases,
        n_folds=asked.folds or FOLDS[name],
        n_repeats=asked.repeats or REPEATS,
        seed=config.seed,
    )
    evaluation = Evaluation(
        cohort=cohort,
        folds=folds,
        arms=[arm(one, study=config) for one in with_controls(asked.arms or PAPER_ARMS)],
        classes=published.classes,
        folder=output,
        split=asked.split,
        patches=patches_word(config),
        seed=config.seed,
        only_folds=asked.only_folds,
        operating=operating_settings(config.evaluation),
    )
    where = find_device(device or "auto", precision=config.training.precision)
    failures = evaluate_arms(evaluation, device=where, engine=engine, quiet=quiet)
    log = write_failures(output, failures)
    rows = valid_rows(evaluation, also=_arms_there(output, config=config))
    check_any_done(rows, failed=failures, log=log)
    statistics = write_statistics(output, rows=rows, positive=published.classes[1], seed=config.seed)
    record = config.model_dump(mode="json")
    write_run_record(output, f"hardmil reproduce {name}", config=record, seed=config.seed, started=started)
    page = _page(name, published=published, config=config, split=asked.split, failures=failures)
    report = write_evaluation_report(page, evaluation=evaluation, rows=rows, statistics=statistics)
    lines = [
        *published.notes,
        *arms_table(statistics.summary, intervals=statistics.intervals, paper=PAPER[name]),
        *comparison_lines(statistics),
        *page.interval_notes,
        _what_was_run(asked, name=name, config=config),
        f"report: {report}",
    ]
    values = {"folder": str(output), "report": str(report), "arms": arms_values(statistics.summary)}
    return Outcome(lines, values, failures, log)


def _page(
    name: str, *, published: PublishedSet, config: StudyConfig, split: str, failures: Sequence[Failure]
) -> Page:
    return Page(
        title=f"The paper's table on {name}",
        question="Do hard bags lower the false positives, as Li et al. 2019 report?",
        paths=published.paths,
        config=config,
        failures=failures,
        notes=published.notes,
        interval_notes=_interval_notes(name, split=split),
        mpp=dict.fromkeys(published.paths, published.mpp),
    )


def reproduction_config(name: str, *, asked: Reproduction, overrides: Sequence[str]) -> StudyConfig:
    """The paper's settings with what was asked for.

    Raises:
        ConfigError: If the set or the split is not known.
    """
    if name not in PAPER:
        raise ConfigError(f"reproduce {name}: no such set, expected {' or '.join(PAPER)}")
    if asked.split not in ("image", "group"):
        raise ConfigError(f"--split {asked.split}: expected image or group")
    content = published_config(name, encode=asked.encoder or PIXELS).model_dump(mode="json")
    content["patches"]["mode"] = asked.patches
    if asked.epochs is not None:
        content["training"]["epochs"] = asked.epochs
    put_overrides(content, overrides)
    return parse_study(content, source="reproduce")


def _instances(
    published: PublishedSet, *, config: StudyConfig, device: str, output: Path, quiet: bool
) -> list[Bag]:
    """The bags as the arms see them: pixels, or their embeddings, which are kept in the folder."""
    cut = instance_config(config)
    encoder = encoder_of(cut, device=device, precision=config.training.precision)
    if encoder is None:
        return list(published.bags)
    folder = output / f"features_{cut.fingerprint()}"
    made: list[Bag] = []
    with progress(f"encoding, {cut.encode}", total=len(published.bags), quiet=quiet) as step:
        for bag in published.bags:
            path = folder / f"{bag.slide_id}.h5"
            if not path.exists():
                write_bag(path, encoded(bag, encoder=encoder), attributes={"encoder": encoder.name})
            made.append(read_bag(path, case_id=bag.case_id, label=bag.label))
            step()
    return made


def _interval_notes(name: str, *, split: str) -> list[str]:
    """What makes the intervals of a published set too narrow."""
    if split == "image":
        return [IMAGES_NOTE]
    return [GROUPS_NOTE] if name == "colon" else []


def _arms_there(output: Path, *, config: StudyConfig) -> list[Arm]:
    """The arms that an earlier call left rows of; one this version does not know is passed over."""
    arms: list[Arm] = []
    for name in dict.fromkeys(row["arm"] for row in read_rows(output / "results.csv")):
        try:
            arms.append(arm(name, study=config))
        except ConfigError:
            continue
    return arms


def _what_was_run(asked: Reproduction, *, name: str, config: StudyConfig) -> str:
    folds, repeats = asked.folds or FOLDS[name], asked.repeats or REPEATS
    kind = "pixels" if config.encode == PIXELS else "features"
    epochs = resolve_config(model_config(config), kind=kind).training.epochs
    return (
        f"{name}, split by {asked.split}, patches {patches_word(config)}: {folds} folds x {repeats} repeats, "
        f"{epochs} epochs. A number rests on as many trials as its row says; "
        f"the paper's on {FOLDS[name]} x {REPEATS}."
    )
