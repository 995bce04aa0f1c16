"""How the instances of a bag were made, as far as its file states it; differing bags must not be mixed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

UNKNOWN = (None, "", "None", "unknown")


@dataclass(frozen=True)
class Provenance:
    """The encoder and the patches it was given, each None if unknown.

    `patch` is a text, as files state different things: "256 px at 20x", "224 px of 256 um".
    """

    encoder: str | None = None
    patch: str | None = None

    def difference(self, other: "Provenance") -> tuple[str, str] | None:
        """The two different values of a field that both know; None if they agree."""
        for name, ours, theirs in (
            ("encoder", self.encoder, other.encoder),
            ("patches of", self.patch, other.patch),
        ):
            if ours is not None and theirs is not None and ours != theirs:
                return f"{name} {ours}", f"{name} {theirs}"
        return None

    def joined(self, other: "Provenance") -> "Provenance":
        """The known fields of both; this one takes precedence."""
        return Provenance(self.encoder or other.encoder, self.patch or other.patch)


UNKNOWN_PROVENANCE = Provenance()


def common_provenance(items: Iterable[Provenance]) -> Provenance:
    """The known fields of all of them; they must agree."""
    found = Provenance()
    for item in items:
        found = found.joined(item)
    return found


def provenance_of_attributes(
    on_coords: Mapping[str, object], on_features: Mapping[str, object]
) -> Provenance:
    """The provenance in the attributes that TRIDENT, CLAM and hardmil write to coords and features.

    The magnification in files of hardmil is ignored: a study without a set resolution may mix slides of 20x
    and 40x on purpose.
    """
    encoder = on_features.get("encoder")
    size, level = on_coords.get("patch_size"), on_coords.get("patch_level")
    magnification = on_coords.get("target_magnification")
    parts = [] if size in UNKNOWN else [f"{size} px"]
    if parts and level not in UNKNOWN:
        parts.append(f"at level {level}")
    if parts and magnification not in UNKNOWN and "hardmil_patches" not in on_coords:
        parts.append(f"at {magnification}x")
    return Provenance(None if encoder in UNKNOWN else str(encoder), " ".join(parts) or None)
