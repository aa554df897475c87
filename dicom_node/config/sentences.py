"""The words of a configuration: refusals that an operator can act on, and the commented example.

Both are made from the definitions in `config`, which hands its model over.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from dicom_node.errors import ConfigError

CODES = {
    "extra_forbidden": "config_unknown_key",
    "missing": "config_missing_key",
    "value_error": "config_contradiction",
}
_WORDS = {
    "^Value error, ": "",
    "^Input is not a valid path.*": "it should be a path in quotes",
    "^Input should": "it should",
    "^(Tuple|String) should": "it should",
    " after validation, not .*": "",
    "a valid string": "text in quotes",
    "a valid integer.*": "a whole number without quotes",
    "a valid number.*": "a number without quotes",
    "a valid boolean.*": "true or false without quotes",
    r"a valid dictionary or instance of (\w+)": "a section with keys",
}


def refusal(model: type[BaseModel], source: str, error: ValidationError) -> ConfigError:
    """Return all findings of pydantic as one `ConfigError` that an operator can act on."""
    found = error.errors(include_url=False)
    # What contains a refused value is refused for lacking it.
    findings = [one for one in found if not any(one["loc"] == other["loc"][:-1] != other["loc"] for other in found)]
    sentences = "; ".join(_sentence(model, finding) for finding in findings)
    first = findings[0]
    code = CODES.get(first["type"], "config_bad_value")
    if code == "config_contradiction" and not isinstance(first["input"], dict):
        code = "config_bad_value"
    return ConfigError(f"{source} is refused: {sentences}.", code)


def _sentence(model: type[BaseModel], finding: Any) -> str:
    key = ".".join(str(part) for part in finding["loc"])
    if finding["type"] == "extra_forbidden":
        return f"unknown key {key}; {_suggestion(model, finding['loc'])}"
    if finding["type"] == "missing":
        return f"{key} is missing; add it"
    remedy = _remedy(model, finding)
    if isinstance(finding["input"], dict):
        return f"{key}: {remedy}" if key else remedy
    return f"{key} = {json.dumps(finding['input'], default=str)} is not allowed; {remedy}"


def _remedy(model: type[BaseModel], finding: Any) -> str:
    if finding["type"] == "tuple_type":
        return _list(model, finding)
    if finding["type"] == "string_pattern_mismatch":
        *sections, key = finding["loc"]
        return f"what it means: {(_section(model, sections).model_fields[key].description or '').rstrip('.')}"
    return _plain(finding["msg"])


def _list(model: type[BaseModel], finding: Any) -> str:
    """Say how what should be a list is written: of sections, or of values."""
    *sections, key = finding["loc"]
    field = (_section(model, sections)).model_fields[key]
    if section_of(field):
        return f"it should be a list: write [[{key}]], with double brackets"
    value = finding["input"]
    return (
        f"it should be a list: write {key} = {toml([value] if value else [])}"
        if isinstance(value, str)
        else "it should be a list"
    )


def _plain(message: str) -> str:
    """Say in TOML's words what pydantic says in Python's."""
    for words, plain in _WORDS.items():
        message = re.sub(words, plain, message)
    return message


def _suggestion(model: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    """Name the known key that is closest to the unknown one, else all of them."""
    known = list(_section(model, loc[:-1]).model_fields)
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    return f"use {close[0]}" if close else f"known keys here are {', '.join(known)}"


def _section(model: type[BaseModel], loc: Sequence[str | int]) -> type[BaseModel]:
    """Return the section that a place in the file lies in."""
    for part in loc:
        if isinstance(part, str):
            model = section_of(model.model_fields[part]) or model
    return model


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a section, or of the rows of a list of sections."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def example(model: type[BaseModel]) -> str:
    """Return a commented configuration with every key, its meaning and its default."""
    blocks = []
    for name, field in model.model_fields.items():
        section = section_of(field)
        if section is not None:
            repeated = get_origin(field.annotation) is tuple
            header = f"[[{name}]]" if repeated else f"[{name}]"
            lines = [header, *_lines(section, repeated=repeated)]
            # Nobody can do without a peer.
            shown = [_aside(line) for line in lines] if repeated and name != "peers" else lines
            blocks.append("\n".join([f"# {(section.__doc__ or '').strip()}", *shown]))
    return "\n\n".join(blocks) + "\n"


def _aside(line: str) -> str:
    return line if line.startswith("#") else f"# {line}"


def _lines(section: type[BaseModel], *, repeated: bool) -> Iterator[str]:
    for key, field in section.model_fields.items():
        yield f"# {field.description}"
        value = field.examples[0] if field.examples else field.default
        # An optional key whose default is "none" is shown with its example, commented out, unless the row needs it.
        optional = field.default is None and not repeated
        yield f"{'# ' if optional else ''}{key} = {toml(value)}"


def toml(value: Any) -> str:
    """Return `value` in TOML, which for these kinds of values is JSON."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, default=str)
