"""HD-BET's release archive -> a model folder that no pickle is left in.

HD-BET unpacks the archive into ``~/hd-bet_params/release_2.0.0`` and then looks for ``dataset.json``, ``plans.json``
and ``fold_all/checkpoint_final.pth`` there, so these lie at the top of its archive. An archive of that folder itself,
with one or more folders around the three files, is as good.
"""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from models.brain_extractor import hd_bet_module
from models.brain_weights import (
    MAX_CHECKPOINT_BYTES,
    PICKLED,
    BrainWeights,
    open_brain_weights,
    read_pickled,
    write_converted,
)
from models.bundle import ModelError, sha256, write_checksums
from models.whole_files import make_folder, open_own, write_whole

_WANTED = ("dataset.json", "plans.json", PICKLED.as_posix())
_MAX_MEMBERS = 1000
_CHUNK_BYTES = 2**20


def install_release(archive: Path, folder: Path, name: str, expected: str | None = None) -> BrainWeights:
    """Return the weights of a release archive, converted into a folder of their own.

    The folder is replaced only after everything was checked. A worker that runs keeps the weights that it has loaded.

    Parameters
    ----------
    archive
        Zip file as HD-BET publishes it, or of the folder that HD-BET unpacks it into.
    folder
        Model folder to write; what is there is replaced.
    name
        What the outputs will call the weights.
    expected
        SHA-256 that the archive must have; None: any.

    Returns
    -------
    BrainWeights
        Of the new folder, opened as the node opens them.

    Raises
    ------
    ModelError
        ``release_missing``, ``release_not_expected``, ``release_unsafe`` (a path that leads elsewhere, a link, or more
        data than any release), ``release_invalid`` (no zip archive, or not HD-BET's files), ``brain_weights_unsafe``
        or ``brain_weights_invalid``.
    """
    if not archive.is_file():
        raise ModelError("release_missing", f"There is no file {archive}: name the release archive of HD-BET.")
    digest = sha256(archive)
    if expected is not None and digest != expected.lower():
        raise ModelError(
            "release_not_expected", f"{archive.name} has the SHA-256 {digest}, not the expected one: get it again."
        )
    unpacked, finished = (folder.with_name(f".{folder.name}.{step}") for step in ("unpacked", "finished"))
    try:
        for temporary in (unpacked, finished):
            shutil.rmtree(temporary, ignore_errors=True)
            make_folder(temporary)
        _unpack(archive, unpacked)
        _convert(unpacked, finished)
        _replace(folder, finished)
    finally:
        for temporary in (unpacked, finished):
            shutil.rmtree(temporary, ignore_errors=True)
    return open_brain_weights(name, folder)


def _unpack(archive: Path, folder: Path) -> None:
    """Write the three files of a release under their own names; no path of the archive is ever used as one."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = zipped.infolist()
            _refuse_unsafe(archive, members)
            for name, member in _wanted(archive, members).items():
                target = folder / name
                make_folder(target.parent)
                with zipped.open(member) as source, os.fdopen(open_own(target, os.O_WRONLY), "wb") as file:
                    shutil.copyfileobj(source, file, _CHUNK_BYTES)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError) as error:
        raise ModelError(
            "release_invalid", f"{archive.name} cannot be unpacked ({type(error).__name__}): get it again."
        ) from None


def _refuse_unsafe(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    """Refuse what no release holds; whoever made such an archive is not to be trusted with the rest."""
    # zipfile stops a member at its declared size, so declared sizes bound what is written.
    too_much = len(members) > _MAX_MEMBERS or sum(member.file_size for member in members) > MAX_CHECKPOINT_BYTES
    if too_much or any(_leads_elsewhere(member) for member in members):
        raise ModelError(
            "release_unsafe",
            f"{archive.name} holds a path that leads out of its folder, a link, or more data than a release has: "
            "nothing was installed.",
        )


def _leads_elsewhere(member: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(member.orig_filename.replace("\\", "/"))
    kind = stat.S_IFMT(member.external_attr >> 16)
    strange = ":" in member.orig_filename or "\0" in member.orig_filename
    return strange or path.is_absolute() or ".." in path.parts or kind not in (0, stat.S_IFREG, stat.S_IFDIR)


def _wanted(archive: Path, members: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return the members that make a model folder, by their names in it."""
    paths = [PurePosixPath(member.filename) for member in members]
    checkpoints = [path for path in paths if path.parts[-2:] == PICKLED.parts]
    root = checkpoints[0].parent.parent if len(checkpoints) == 1 else PurePosixPath("missing")
    found = {name: [m for m, path in zip(members, paths, strict=True) if path == root / name] for name in _WANTED}
    if any(len(matches) != 1 for matches in found.values()):
        raise ModelError(
            "release_invalid",
            f"{archive.name} is no release of HD-BET 2: it must hold {', '.join(_WANTED)} once.",
        )
    return {name: matches[0] for name, matches in found.items()}


def _convert(unpacked: Path, finished: Path) -> None:
    """Write the model folder without the pickle, and check that its network can be built."""
    pickled = unpacked / PICKLED
    write_converted(read_pickled(pickled), finished, pickled)
    for name in ("dataset.json", "plans.json"):
        write_whole(finished / name, (unpacked / name).read_bytes())
    hd_bet_module().check_fit(finished)
    write_checksums(finished)


def _replace(folder: Path, finished: Path) -> None:
    """Put the finished folder into the place of the old one."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    finished.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
