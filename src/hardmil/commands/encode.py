"""`hardmil encode STUDY`: pixels or embeddings of every patch, one bag file for each slide."""

from collections.abc import Sequence
from pathlib import Path

from hardmil.commands.slides_outcome import slides_outcome
from hardmil.jobs.outcome import Outcome
from hardmil.preprocessing.process_slides import DEFAULT_OPTIONS, RunOptions
from hardmil.preprocessing.study_encoding import encode_study
from hardmil.preprocessing.study_folder import open_study
from hardmil.words import count


def encode(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    device: str | None = None,
    options: RunOptions = DEFAULT_OPTIONS,
) -> Outcome:
    """Make the bag of every slide, and say how many there are."""
    done = encode_study(open_study(path, overrides=overrides), device=device, options=options)
    bags = count(len(done.patches), "bag")
    return slides_outcome(done, what=f"{bags} of {sum(done.patches.values())} patches")
