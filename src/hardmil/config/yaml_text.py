"""YAML as a person writes it in study.yaml: version 1.2, without what can be misread or grow."""

import re
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from hardmil.errors import ConfigError

_TYPES = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
}
"""Plain text that is not text, and the characters it begins with. YAML 1.1, which other programs read, also
takes `no` for false, 1_000 for 1000, 1:30 for 90, 010 for 8, and a date for more than its text."""


_MAX_DIGITS = 30
"""Longest whole number."""


class _Loader(yaml.SafeLoader):
    """YAML without anchors, whose copies could fill any memory, and with every key once."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next node; anchors and aliases are refused."""
        event = self.peek_event()
        name = getattr(event, "anchor", None)
        if name is not None:
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            raise ComposerError(
                None,
                None,
                f"found {sign}{name}, a name for a value; write the value itself",
                event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """A mapping; a key that is there twice is refused."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode):
                raise ConstructorError(
                    None, None, f"found the key {key.value} twice; keep one of them", key.start_mark
                )
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
for _tag, (_pattern, _first) in _TYPES.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def _whole(loader: _Loader, node: Any) -> int:
    text = str(loader.construct_scalar(node))
    if len(text) > _MAX_DIGITS:
        raise ConstructorError(
            None,
            None,
            f"found a number of {len(text):,} digits; expected at most {_MAX_DIGITS}",
            node.start_mark,
        )
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _whole)


def yaml_value(text: str, *, source: str) -> object:
    """The value that a YAML text stands for: mappings, lists, text, numbers, booleans and None.

    Raises:
        ConfigError: If it is not YAML, is nested too deeply, or has a key twice, an anchor or an impossible
            number; `source` and the line are named.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise ConfigError(
            f"{source}: is nested too deeply; expected sections of settings; correct it"
        ) from error
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split()).replace('in "<unicode string>", line', "in line")
        raise ConfigError(f"{source}: not readable as YAML ({reason[:400]}); correct it") from error
