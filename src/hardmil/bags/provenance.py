"""How the instances of a bag were made, as far as its file says: two that differ must not be mixed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

UNKNOWN = (None, "", "None", "unknown")


@dataclass(frozen=True)
class Provenance:
    """The encoder, and what its patches were, each None where it is not known.

    `patch` is in words, as files differ in what they say: "256 px at 20x", "224 px of 256 um".
    """

    encoder: str | None = None
    patch: str | None = None

    def difference(self, other: "Provenance") -> tuple[str, str] | None:
        """What this one and the other say of the same thing, where both know it and differ; else None."""
        for name, ours, theirs in (
            ("encoder", self.encoder, other.encoder),
            ("patches of", self.patch, other.patch),
        ):
            if ours is not None and theirs is not None and ours != theirs:
                return f"{name} {ours}", f"{name} {theirs}"
        return None

    def joined(self, other: "Provenance") -> "Provenance":
        """What is known of either."""
        return Provenance(self.encoder or other.encoder, self.patch or other.patch)


UNKNOWN_PROVENANCE = Provenance()


def common_provenance(all_made: Iterable[Provenance]) -> Provenance:
    """What is known of any of them; they were checked to agree."""
    found = Provenance()
    for made in all_made:
        found = found.joined(made)
    return found


def provenance_of_attributes(
    on_coords: Mapping[str, object], on_features: Mapping[str, object]
) -> Provenance:
    """What TRIDENT, CLAM and hardmil say of a file, on its coords and its features.

    The magnification of our own files is left out: cut as they are, slides of 20x and 40x may be mixed on
    purpose, and one study's knobs made them all.
    """
    encoder = on_features.get("encoder")
    size, level = on_coords.get("patch_size"), on_coords.get("patch_level")
    magnification = on_coords.get("target_magnification")
    words = [] if size in UNKNOWN else [f"{size} px"]
    if words and level not in UNKNOWN:
        words.append(f"at level {level}")
    if words and magnification not in UNKNOWN and "hardmil_patches" not in on_coords:
        words.append(f"at {magnification}x")
    return Provenance(None if encoder in UNKNOWN else str(encoder), " ".join(words) or None)
