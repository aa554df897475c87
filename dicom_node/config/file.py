"""TOML file -> validated `Config`.

Unknown keys, bad values and contradictions are refused as `ConfigError` with the key, the value and the remedy, before
a socket is opened. `example_toml` writes the commented file from the same definitions; the words of both stand in
`sentences`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dicom_node.config.sections import Config
from dicom_node.config.sentences import example, refusal, toml
from dicom_node.config.values import Section
from dicom_node.errors import ConfigError

_MOST_BYTES = 2**20
"""Of a configuration; the commented example has a hundredth of it."""


def load(path: Path) -> Config:
    """Return the configuration in the TOML file `path`.

    Raises
    ------
    ConfigError
        If the file is missing (``config_missing``), is not TOML (``config_syntax``), has an unknown key
        (``config_unknown_key``), lacks one (``config_missing_key``) or holds a bad or contradictory value
        (``config_bad_value``, ``config_contradiction``).
    """
    try:
        text = _read(path)
    except FileNotFoundError:
        raise ConfigError(
            f"There is no configuration at {path}: write one with `dicom-node init {path}`.", "config_missing"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read ({type(error).__name__}): make it a readable UTF-8 text file.", "config_unreadable"
        ) from None
    return parse(text, source=str(path), folder=path.resolve().parent)


def _read(path: Path) -> str:
    with path.open("rb") as stream:
        content = stream.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{path} is too large for a configuration: name another file.", "config_unreadable")
    return content.decode()


def parse(text: str, *, source: str = "The configuration", folder: Path | None = None) -> Config:
    """Return the configuration in a TOML text.

    Parameters
    ----------
    text
        The whole file.
    source
        How errors name it.
    folder
        Where relative paths start; default the current folder.

    Raises
    ------
    ConfigError
        As `load`.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is not valid TOML: {error}; correct that line.", "config_syntax") from None
    except RecursionError:
        raise ConfigError(f"{source} is nested too deeply: no key of it needs that.", "config_syntax") from None
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise refusal(Config, source, error) from None
    return _with_whole_paths(config, folder or Path.cwd())


def _with_whole_paths(config: Config, folder: Path) -> Config:
    def whole(path: Path) -> Path:
        return folder / path.expanduser()

    node = config.node.model_copy(update={"data_dir": whole(config.node.data_dir)})
    named = {"certificate": config.tls.certificate, "key": config.tls.key}
    files = {name: path and whole(path) for name, path in named.items()}
    tls = config.tls.model_copy(update={**files, "ca": tuple(map(whole, config.tls.ca))})
    alarms = config.alarms.model_copy(update={"to_file": config.alarms.to_file and whole(config.alarms.to_file)})
    peers = tuple(peer.model_copy(update={"tls_ca": tuple(map(whole, peer.tls_ca))}) for peer in config.peers)
    sections: dict[str, Any] = {"node": node, "tls": tls, "peers": peers, "alarms": alarms}
    for kind in ("fhir_servers", "hl7_receivers"):
        sections[kind] = tuple(_with_whole_files(one, whole) for one in getattr(config, kind))
    return config.model_copy(update=sections)


def _with_whole_files(section: Section, whole: Callable[[Path], Path]) -> Section:
    """Return a section whose values that are paths are whole."""
    files = {name: whole(path) for name, path in section if isinstance(path, Path)}
    return section.model_copy(update=files)


def example_toml() -> str:
    """Return a commented configuration with every key, its meaning and its default; `load` accepts it."""
    return example(Config)


def with_first_password(hashed: str) -> str:
    """Return the commented configuration with the hash of the first password in its place."""
    lines = example_toml().splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("# first_password = "))
    lines[place] = f"first_password = {toml(hashed)}"
    return "\n".join(lines) + "\n"
