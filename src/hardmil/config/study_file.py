"""study.yaml: reading it with overrides, and writing it with comments."""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

from hardmil.budget import YAML_BYTES, read_text, shown
from hardmil.config.patches import PatchConfig
from hardmil.config.study import StudyConfig
from hardmil.config.yaml_text import yaml_value
from hardmil.errors import ConfigError

FILE_NAME = "study.yaml"
BY_ENCODER = ("size_px", "um_per_px")
"""Settings of patches that take their default from the encoder."""


def read_study(path: Path, *, overrides: Sequence[str] = ()) -> tuple[StudyConfig, Path]:
    """The settings in a study.yaml, and the folder that its paths are relative to.

    Args:
        path: study.yaml or its folder.
        overrides: "mining.n_clusters=8", each replaces a value of the file.

    Raises:
        ConfigError: If the file is missing or is not YAML, or a key or value is not known.
    """
    path = path / FILE_NAME if path.is_dir() else path
    try:
        text = read_text(path, most=YAML_BYTES)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such file; expected a study; make one with: hardmil init DIR"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: not readable as YAML ({reason}); correct it") from error
    content = yaml_value(text, source=str(path)) or {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: found {type(content).__name__}, expected keys and values; see hardmil init"
        )
    put_overrides(content, overrides)
    return parse_study(content, source=str(path)), path.parent


def parse_study(content: Mapping[str, object], *, source: str) -> StudyConfig:
    """The settings in a nested mapping.

    Raises:
        ConfigError: If a key or a value is not known; `source` and the nearest right key are named.
    """
    try:
        return StudyConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, list(_keys(StudyConfig)), n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{source}: there is no key {key}{hint}") from error
        # For a setting with more than one type, pydantic adds the type: mining.threshold.float.
        while "." in key and key not in _keys(StudyConfig):
            key = key.rpartition(".")[0]
        # Pydantic puts "Value error, " before the message of our own checks.
        reason = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:  # settings that do not fit each other
            raise ConfigError(f"{source}: {reason}") from error
        raise ConfigError(f"{source}: {key}: found {shown(first['input'])}; {reason}") from error


def put_overrides(content: dict[str, object], overrides: Sequence[str]) -> None:
    """Put overrides such as "mining.n_clusters=8" into a nested mapping.

    Raises:
        ConfigError: If one does not have this form.
    """
    for override in overrides:
        _put(content, override)


def _put(content: dict[str, object], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override}: expected KEY=VALUE, such as mining.n_clusters=8")
    *sections, name = key.strip().split(".")
    node = content
    for section in sections:
        inner = node.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override}: {section} is not a section; expected a key of study.yaml")
        node = inner
    node[name] = yaml_value(value, source=f"--set {override}")


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")


def commented_yaml(config: StudyConfig) -> str:
    """A study.yaml with every setting, each with its explanation above it.

    Settings that take their value from the encoder stand in a comment, so that they follow another encoder.
    """
    by_encoder = StudyConfig(encode=config.encode).patches
    follows = {name for name in BY_ENCODER if getattr(config.patches, name) == getattr(by_encoder, name)}
    return "\n".join(
        [
            "# A hardmil study. Paths are relative to this folder.",
            *_section(config, indent="", follows=follows),
            "",
        ]
    )


def _section(section: BaseModel, *, indent: str, follows: Collection[str]) -> list[str]:
    """The settings of a section, then its subsections."""
    plain: list[str] = []
    inner: list[str] = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            about = (type(value).__doc__ or "").strip()
            inner += ["", f"{indent}# {about}", f"{indent}{name}:"]
            inner += _section(value, indent=indent + "  ", follows=follows)
        else:
            is_comment = isinstance(section, PatchConfig) and name in follows
            plain += _entry(name, field.description, value, indent=indent, is_comment=is_comment)
    return ["", *plain, *inner] if not indent else [*plain, *inner]


def _entry(name: str, description: str | None, value: object, *, indent: str, is_comment: bool) -> list[str]:
    plain = list(value) if isinstance(value, tuple) else value
    # YAML ends a single scalar with an end-of-document mark.
    dumped = yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    comments = [f"{indent}# {line}" for line in (description or "").split("\n")]
    if is_comment:
        return [*comments, f"{indent}# By encoder. To set it, remove the #:", f"{indent}# {name}: {dumped}"]
    return [*comments, f"{indent}{name}: {dumped}"]
