"""``dicom-node models``: list, verify, install and fetch the models of a node."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.printing import print_json, print_line, print_table, progress
from dicom_node.cli.settings import ConfigOption, JsonOption, load_config, quiet, refusing
from dicom_node.errors import CommandError
from dicom_node.studies.spool import Spool

if TYPE_CHECKING:
    from dicom_node.config import Config

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, verify, install and fetch models.")

Sha256Option = Annotated[str | None, typer.Option("--sha256", help="SHA-256 that the archive must have.")]


class Installable(StrEnum):
    """What can be installed."""

    HD_BET = "hd-bet"


WhatArgument = Annotated[Installable, typer.Argument(help="Which weights.")]


@dataclass(frozen=True, slots=True)
class Row:
    """One model: what it is, whether its files are the ones that its digest names, and whether the node uses it."""

    kind: str
    name: str
    version: str
    digest: str
    state: str
    used: bool
    sentence: str = ""


@app.command("list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List bundles and brain weights."""
    _print(rows(_settings(config)), as_json=as_json)


@app.command()
def verify(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check every file of every model against its SHA-256; exit 1 if one is not what it was."""
    found = rows(_settings(config))
    _print(found, as_json=as_json)
    if any(row.state != "ok" for row in found):
        raise typer.Exit(1)


@app.command()
def install(
    what: WhatArgument,
    archive: Annotated[Path, typer.Argument(help="Release archive, for example release_v1.5.0.zip.")],
    sha256: Sha256Option = None,
    config: ConfigOption = None,
) -> None:
    """Install weights from a release archive, without their pickle."""
    install_archive(what, archive, sha256, _settings(config))


@app.command()
def fetch(
    what: WhatArgument,
    url: Annotated[str | None, typer.Option(help="Another address than HD-BET's own, such as a mirror.")] = None,
    sha256: Sha256Option = None,
    config: ConfigOption = None,
) -> None:
    """Download weights and install them; a second call goes on where the first one stopped."""
    settings = _settings(config)
    with progress() as tell:
        archive = fetch_archive(what, url or release_url(), settings, tell)
    try:
        install_archive(what, archive, sha256, settings)
    finally:
        archive.unlink()


@app.command()
def inflate(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Weights of a 2-D EfficientNet-B0, .pth or .safetensors.")
    ],
    out: Annotated[Path, typer.Option(help="New .safetensors file for `train --start`.")],
) -> None:
    """Turn weights of a 2-D EfficientNet-B0 into those of the 3-D network, as a start for training."""
    with refusing():
        from models.inflate import inflate_checkpoint

        report = inflate_checkpoint(checkpoint, out)
    print_line(f"Wrote {out}: {report}.")


def fetch_archive(what: Installable, url: str, config: Config, tell: Callable[[str], None]) -> Path:
    """Return the release archive, downloaded into the data folder.

    Raises
    ------
    DownloadError
        With the way that needs no network.
    """
    from dicom_node.net.download import DownloadError, download

    Spool(config.node.data_dir)
    try:
        return download(url, config.node.data_dir / f"{what.value}-release.zip", tell)
    except DownloadError as error:
        raise DownloadError(
            f"{error} Or without a network: get {url} on another machine, carry it here, and run "
            f"`dicom-node models install {what.value} FILE`.",
            error.code,
        ) from None


def rows(config: Config) -> list[Row]:
    """Return a row for every bundle that ships, the configured one, and all brain weights."""
    from models.bundle import shipped_bundles
    from models.hd_bet_v1 import is_installed

    bundles = dict.fromkeys([*shipped_bundles(), config.model.bundle])
    found = [_row("bundle", name, name == config.model.bundle, _bundle) for name in bundles]
    found.append(_row("brain weights", "embedded", config.brain.weights == "embedded", _embedded(config)))
    if config.brain.weights == "hd-bet" or _hd_bet_folder(config).exists():
        found.append(_row("brain weights", "hd-bet", config.brain.weights == "hd-bet", _hd_bet(config)))
    if config.brain.weights == "hd-bet-v1" or is_installed():
        found.append(_row("brain weights", "hd-bet-v1", config.brain.weights == "hd-bet-v1", _hd_bet_v1(config)))
    return found


def _row(kind: str, name: str, used: bool, identify: Callable[[str], tuple[str, str]]) -> Row:
    from models.bundle import ModelError

    try:
        return Row(kind, name, *identify(name), "ok", used)
    except ModelError as error:
        return Row(kind, name, "", "", error.code, used, str(error))


def _bundle(name: str) -> tuple[str, str]:
    from models.bundle import open_bundle

    bundle = open_bundle(name)
    return bundle.metadata.version, bundle.digest


def _embedded(config: Config) -> Callable[[str], tuple[str, str]]:
    def identify(name: str) -> tuple[str, str]:
        from models.brain_weights import EMBEDDED, open_brain_weights

        pinned = config.brain.digest if config.brain.weights == name else None
        return version("dicom-node"), open_brain_weights(name, EMBEDDED, pinned).digest

    return identify


def _hd_bet(config: Config) -> Callable[[str], tuple[str, str]]:
    def identify(name: str) -> tuple[str, str]:
        from models.brain_weights import converted_from, open_brain_weights

        pinned = config.brain.digest if config.brain.weights == name else None
        weights = open_brain_weights(name, _hd_bet_folder(config), pinned)
        return f"checkpoint {converted_from(weights)[:12]}", weights.digest

    return identify


def _hd_bet_v1(config: Config) -> Callable[[str], tuple[str, str]]:
    def identify(name: str) -> tuple[str, str]:
        from models.hd_bet_v1 import PACKAGE, Mode, open_hd_bet_v1

        pinned = config.brain.digest if config.brain.weights == name else None
        weights = open_hd_bet_v1(Mode(config.brain.mode), pinned)
        return f"{PACKAGE} {version(PACKAGE)}, {config.brain.mode}", weights.digest

    return identify


def install_archive(what: Installable, archive: Path, sha256: str | None, config: Config) -> None:
    """Install a release archive into the data folder and say what comes next.

    Raises
    ------
    NodeError
        With the code of the refusal.
    """
    from models.hd_bet_release import install_release

    Spool(config.node.data_dir)
    with refusing():
        if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
            raise CommandError("--sha256 takes 64 hexadecimal digits.", "digest_invalid")
        weights = install_release(archive, _hd_bet_folder(config), what.value, sha256)
    print_line(f"Installed {what.value} with the digest {weights.digest}.")
    if config.brain.weights != what.value:
        print_line(f'Set weights = "{what.value}" in [brain], run `dicom-node check`, and restart the node.')


def _hd_bet_folder(config: Config) -> Path:
    return config.node.data_dir / "hd-bet"


def release_url() -> str:
    """Return the address that HD-BET downloads its release from."""
    from HD_BET.paths import ZENODO_DOWNLOAD_URL

    return str(ZENODO_DOWNLOAD_URL)


def _settings(file: Path | None) -> Config:
    quiet()
    return load_config(file, offline=True)


def _print(found: list[Row], *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(row) for row in found])
        return
    header = ("kind", "name", "version", "digest", "state", "")
    print_table(
        header, [(r.kind, r.name, r.version, r.digest[:16], r.state, "in use" if r.used else "") for r in found]
    )
    for row in found:
        if row.sentence:
            print_line(f"{row.name}: {row.sentence}")
