"""The bags of many slides, checked to fit together."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hardmil.bags.bag import Bag
from hardmil.bags.provenance import common_provenance
from hardmil.bags.slide_table import SlideRow
from hardmil.errors import BagError, EmptyBagError
from hardmil.jobs.failures import Failure
from hardmil.jobs.run import run_jobs


@dataclass(frozen=True)
class FoundBags:
    """The bags of a table's slides by slide_id, the slides whose files hold no instance, the failures."""

    bags: dict[str, Bag]
    empty: tuple[str, ...]
    failures: Sequence[Failure]


def collect_bags(
    read: Callable[[SlideRow], Bag], rows: Sequence[SlideRow], *, label: str, quiet: bool
) -> FoundBags:
    """What `read` gives for each slide; one whose bag is empty is set apart, and is no failure.

    Raises:
        BagError: If two bags differ in kind or length of their instances, in encoder or in patch size.
    """

    def read_or_none(row: SlideRow) -> Bag | None:
        try:
            return read(row)
        except EmptyBagError:
            return None

    done = run_jobs(read_or_none, rows, name=lambda row: row.slide_id, label=label, quiet=quiet)
    bags = {name: bag for name, bag in done.results.items() if bag is not None}
    check_same_instances(bags.values())
    return FoundBags(bags, tuple(name for name in done.results if name not in bags), done.failures)


def notes_on(bags: Iterable[Bag], *, empty: Sequence[str] = ()) -> list[str]:
    """What a user should know of bags that were read: slides without a patch, or without known places."""
    notes = [f"note: no patch in the bag of {_named(empty)}: left out"] if empty else []
    return notes + notes_on_missing_coords([bag.slide_id for bag in bags if bag.size_level0_px == 0])


def notes_on_missing_coords(slide_ids: Sequence[str]) -> list[str]:
    """What a user should know of slides without known places; nothing if there are none."""
    if not slide_ids:
        return []
    return [
        f"note: where the patches lie is not known of {_named(slide_ids)}, so no heat map shows them: a "
        ".pt holds no places, and STAMP's need the slide's mpp, which the column mpp can give"
    ]


def _named(slide_ids: Sequence[str]) -> str:
    shown = ", ".join(slide_ids[:5])
    return f"{shown} and {len(slide_ids) - 5} more" if len(slide_ids) > 5 else shown


def check_same_instances(bags: Iterable[Bag]) -> None:
    """Check that bags of one study hold instances of one kind and shape, made alike as far as is known.

    Raises:
        BagError: If two do not; both slides are named, and what they hold.
    """
    first: Bag | None = None
    sayers: list[Bag] = []
    for bag in bags:
        first = first or bag
        for other in sayers:
            found = bag.provenance.difference(other.provenance)
            if found is not None:
                raise BagError(
                    f"slide {bag.slide_id} has {found[0]}, slide {other.slide_id} has {found[1]}; expected "
                    "the same in all; write the files of one of them again, or leave it out"
                )
        known = common_provenance(one.provenance for one in sayers)
        if bag.provenance.joined(known) != known:
            sayers.append(bag)
        if _what(bag) != _what(first):
            raise BagError(
                f"slide {bag.slide_id} has {_what(bag)}, slide {first.slide_id} has {_what(first)}; expected "
                "the same in all; write the files of one of them again, with the same encoder and size"
            )


def _what(bag: Bag) -> str:
    shape = bag.instances.shape
    return f"features of {shape[1]}" if bag.kind == "features" else f"patches of {shape[2]} x {shape[1]} px"
