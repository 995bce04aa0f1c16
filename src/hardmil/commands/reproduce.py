"""`hardmil reproduce colon|ucsb --data DIR`: the paper's table next to ours."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hardmil.commands.arms_table import arms_table, arms_values, choice_lines, comparison_lines
from hardmil.device import find_device
from hardmil.jobs.outcome import Outcome
from hardmil.jobs.pool import LOCAL, Engine
from hardmil.paper.cost import cost_lines
from hardmil.paper.datasets import read_published
from hardmil.paper.reproduction import (
    Reproduction,
    arms_of_earlier_calls,
    interval_notes,
    reproduction_config,
    reproduction_evaluation,
    what_was_run,
)
from hardmil.paper.tables import PAPER
from hardmil.report.assemble import Page
from hardmil.report.evaluation_run import run_evaluation


def reproduce(
    name: str,
    *,
    data: Path,
    output: Path,
    protocol: Reproduction,
    overrides: Sequence[str] = (),
    device: str | None = None,
    engine: Engine = LOCAL,
    quiet: bool = False,
) -> Outcome:
    """Run the paper's arms on its set, one row for each arm, repeat and fold; rows of equal hash are kept.

    Unless quiet, what the run will cost is printed on stderr before it starts.

    Raises:
        ConfigError: If the set, the split or an arm is not known.
        TableError: If the set is not in the folder.
        JobError: If no trial could be done.
    """
    started = time.time()
    config = reproduction_config(name, protocol=protocol, overrides=overrides)
    published = read_published(name, folder=data, split=protocol.split, config=config.patches)
    evaluation = reproduction_evaluation(
        name,
        published=published,
        config=config,
        protocol=protocol,
        output=output,
        device=device or "auto",
        quiet=quiet,
    )
    where = find_device(device or "auto", precision=config.training.precision)
    if not quiet:
        for line in cost_lines(evaluation, device=where, engine=engine):
            print(line, file=sys.stderr, flush=True)
    page = Page(
        title=f"The paper's table on {name}",
        question="Do hard bags lower the false positives, as Li et al. 2019 report?",
        paths=published.paths,
        config=config,
        notes=published.notes,
        interval_notes=interval_notes(name, split=protocol.split),
        mpp=dict.fromkeys(published.paths, published.mpp),
    )
    run = run_evaluation(
        evaluation,
        page=page,
        command=f"hardmil reproduce {name}",
        started=started,
        device=where,
        engine=engine,
        also=arms_of_earlier_calls(evaluation, config=config),
        quiet=quiet,
    )
    summary = run.statistics.summary
    lines = [
        *published.notes,
        *arms_table(summary, intervals=run.statistics.intervals, paper=PAPER[name]),
        *choice_lines(run.statistics),
        *comparison_lines(run.statistics),
        *page.interval_notes,
        what_was_run(protocol, name=name, config=config),
        f"report: {run.report}",
    ]
    values = {"folder": str(output), "report": str(run.report), "arms": arms_values(summary)}
    return Outcome(lines, values, run.failures, run.log)
