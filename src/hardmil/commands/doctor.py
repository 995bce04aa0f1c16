"""`hardmil doctor [STUDY]`: what is installed and works here; what is wrong with a study."""

from collections.abc import Sequence
from pathlib import Path

from hardmil.checks.installation import installation_lines
from hardmil.checks.study import check_study
from hardmil.jobs.outcome import Outcome


def doctor(study: Path | None = None, *, overrides: Sequence[str] = (), quiet: bool = True) -> Outcome:
    """Versions, readers, devices, encoders that can be used here; of a study, what `check_study` finds."""
    here = installation_lines()
    if study is None:
        return here
    found = check_study(study, overrides=overrides, quiet=quiet)
    return Outcome([*here.lines, *found.lines], {**here.values, **found.values}, found.failures)
