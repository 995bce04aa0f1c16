"""A group of settings, and fingerprints of values."""

import hashlib
import json
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic.config import JsonDict

ADDED_LATER: JsonDict = {"added_later": True}
"""`json_schema_extra` of a setting, or a section, that is younger than recorded rows: its default does not
change a hash."""


class Section(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_plain(cls, value: object, info: Any) -> object:
        """Refuse what pydantic would convert to a number, and the person did not mean as one."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        kinds = get_args(annotation) or (annotation,)
        if not {int, float}.intersection(kinds) or {bool, str}.intersection(kinds):
            return value
        if isinstance(value, bool):
            raise ValueError("expected a number; true and false are none")
        if isinstance(value, str) and "_" in value and value.replace("_", "").isdigit():
            raise ValueError(f"expected a number without _, such as {value.replace('_', '')}")
        return value

    def fingerprint(self) -> str:
        """Twelve hex digits that change with any setting."""
        return fingerprint(self.hashed())

    def hashed(self) -> dict[str, object]:
        """Its settings as JSON values, for a hash: a setting added later is left out at its default."""
        values = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if field.json_schema_extra == ADDED_LATER and value == field.default:
                del values[name]
            elif isinstance(value, Section):
                values[name] = value.hashed()
        return values


def fingerprint(value: object) -> str:
    """Twelve hex digits of a value that JSON can hold: the same for equal values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
