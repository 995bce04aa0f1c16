"""Reading the bags of many slides, and checking that they can be used together."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hardmil.bags.bag import Bag
from hardmil.bags.provenance import common_provenance
from hardmil.bags.slide_table import SlideRow
from hardmil.errors import BagError, EmptyBagError
from hardmil.jobs.failures import Failure
from hardmil.jobs.run import run_jobs
from hardmil.words import some_of


@dataclass(frozen=True)
class FoundBags:
    """The bags of a table by slide_id, the slides whose files have no instances, and the failures."""

    bags: dict[str, Bag]
    empty: tuple[str, ...]
    failures: Sequence[Failure]


def collect_bags(
    read: Callable[[SlideRow], Bag], rows: Sequence[SlideRow], *, label: str, quiet: bool
) -> FoundBags:
    """The bags that `read` returns for the slides; a slide with an empty bag is not a failure.

    Raises:
        BagError: If two bags differ in the kind or shape of their instances, in encoder or in patch size.
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
    """Notes for the user on bags: slides without patches, with unknown coordinates, or with dead features."""
    bags = list(bags)
    notes = [f"note: no patches in the bag of {some_of(empty, most=5)}: left out"] if empty else []
    same = [bag.slide_id for bag in bags if len(bag) > 1 and bool((bag.instances == bag.instances[0]).all())]
    if same:
        notes.append(
            f"note: all patches of {some_of(same, most=5)} have the same features, so attention has nothing "
            "to choose from; check how they were encoded"
        )
    return notes + notes_on_missing_coords([bag.slide_id for bag in bags if bag.size_level0_px == 0])


def notes_on_missing_coords(slide_ids: Sequence[str]) -> list[str]:
    """A note for the user on slides with unknown coordinates; empty if there are none."""
    if not slide_ids:
        return []
    named = some_of(slide_ids, most=5)
    return [
        f"note: the patch coordinates of {named} are unknown, so they have no heat map: a .pt file has no "
        "coordinates, and those of STAMP need the slide's mpp, which the column mpp can give"
    ]


def check_same_instances(bags: Iterable[Bag]) -> None:
    """Check that bags have instances of one kind and shape, and the same provenance as far as known.

    Raises:
        BagError: If two differ; both slides are named.
    """
    first: Bag | None = None
    with_provenance: list[Bag] = []
    for bag in bags:
        first = first or bag
        for other in with_provenance:
            found = bag.provenance.difference(other.provenance)
            if found is not None:
                raise BagError(
                    f"slide {bag.slide_id} has {found[0]}, slide {other.slide_id} has {found[1]}; expected "
                    "the same in all; write the files of one of them again, or leave it out"
                )
        known = common_provenance(one.provenance for one in with_provenance)
        if bag.provenance.joined(known) != known:
            with_provenance.append(bag)
        if _describe(bag) != _describe(first):
            raise BagError(
                f"slide {bag.slide_id} has {_describe(bag)}, slide {first.slide_id} has {_describe(first)}; "
                "expected the same in all; write the files of one of them again, with the same encoder and "
                "size"
            )


def _describe(bag: Bag) -> str:
    shape = bag.instances.shape
    return f"features of {shape[1]}" if bag.kind == "features" else f"patches of {shape[2]} x {shape[1]} px"
