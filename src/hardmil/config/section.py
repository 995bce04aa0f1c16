"""A group of settings, and fingerprints of values."""

import hashlib
import json

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def fingerprint(self) -> str:
        """Twelve hex digits that change with any setting."""
        return fingerprint(self.model_dump(mode="json"))


def fingerprint(value: object) -> str:
    """Twelve hex digits of a value that JSON can hold: the same for equal values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
