"""A back-up of the node in one file, made while it runs, and the way back.

::

    node.toml        the configuration
    data/            the data folder: pseudonym.key, engine.sqlite, spool/<study_uid>/ but for the images
    end              empty, and the last: a file without it is only a part

The database is copied first, by SQLite's own means: files that are newer than it do no harm, since every step is safe
to repeat. Not in it are the images, which the PACS has (``--images`` adds them), the index, which is made anew, models,
and a database in PostgreSQL, which its own tools back up.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path, PurePosixPath
from typing import Final

from dicom_node.config import Config, load
from dicom_node.errors import CommandError, ConfigError, NodeError
from dicom_node.log import PSEUDONYM_KEY
from dicom_node.studies import unfinished
from dicom_node.studies.index import Index
from dicom_node.studies.spool import Spool
from models.whole_files import make_folder, open_own, put_in_place, sync_folder

_CONFIG: Final = "node.toml"
_DATA: Final = "data"
END: Final = "end"
_RESTORING: Final = "restoring"
_IMAGES: Final = ("instances", "copies.txt")


def backup(config: Config, config_file: Path, target: Path, *, images: bool = False) -> int:
    """Write a back-up, for its owner alone; return how many studies it holds.

    Parameters
    ----------
    config, config_file
        Of the node, which may run.
    target
        A file that is not there yet.
    images
        Whether the received images go in too.

    Raises
    ------
    NodeError
        If the file is there already (``output_exists``), or cannot be written (``backup_failed``).
    """
    if target.exists():
        raise CommandError(f"{target} is there already: name another file.", "output_exists")
    try:
        with tempfile.TemporaryDirectory(prefix=f"{target.name}.", dir=target.parent) as temporary:
            written = Path(temporary) / "tar"
            descriptor = open_own(written, os.O_RDWR)
            with os.fdopen(descriptor, "wb") as stream, tarfile.open(fileobj=stream, mode="w") as tar:
                count = _fill(tar, config, config_file, Path(temporary), images=images)
                tar.addfile(tarfile.TarInfo(END))
            put_in_place(written, target)
    except (OSError, sqlite3.Error) as error:
        raise NodeError(
            f"The back-up cannot be written ({type(error).__name__}): look at the room and the rights of "
            f"{target.parent}.",
            "backup_failed",
        ) from None
    return count


def restore(source: Path, config_file: Path) -> int:
    """Put a back-up back; return how many studies it held.

    Parameters
    ----------
    source
        What `backup` wrote.
    config_file
        One that is there says where the data folder is; else that of the back-up is written there.

    Raises
    ------
    ConfigError
        If the data folder holds something (``data_dir_used``).
    NodeError
        If the file is no back-up or only a part of one, or the disk refuses (``restore_failed``).
    """
    try:
        with tarfile.open(source) as tar:
            if tar.getnames()[-1:] != [END]:
                raise NodeError(f"{source} is only a part of a back-up: copy it again, whole.", "restore_failed")
            if not config_file.exists():
                _write(tar, tar.getmember(_CONFIG), config_file)
            config = load(config_file)
            _put_back(tar, config.node.data_dir)
    except (OSError, tarfile.TarError, KeyError, ValueError) as error:
        raise NodeError(
            f"{source} cannot be restored ({type(error).__name__}): name a file that `dicom-node backup` wrote.",
            "restore_failed",
        ) from None
    spool = Spool(config.node.data_dir)
    Index.of(config).catch_up(spool)
    return sum(1 for _ in spool.uids())


def _fill(tar: tarfile.TarFile, config: Config, config_file: Path, temporary: Path, *, images: bool) -> int:
    data_dir = config.node.data_dir
    if config.node.engine_file.exists() and config.node.database_url is None:
        copy = temporary / "engine"
        with closing(sqlite3.connect(config.node.engine_file)) as engine, closing(sqlite3.connect(copy)) as ours:
            engine.backup(ours)
        tar.add(copy, f"{_DATA}/{config.node.engine_file.name}")
    tar.add(config_file, _CONFIG)
    with suppress(FileNotFoundError):
        tar.add(data_dir / PSEUDONYM_KEY, f"{_DATA}/{PSEUDONYM_KEY}")
    if images:
        for mark in (data_dir / unfinished.FOLDER).iterdir():
            _add(tar, mark, data_dir)
    spool, count = Spool(data_dir), 0
    for uid in spool.uids():
        count += 1
        for path in _files(data_dir / "spool" / uid, images=images):
            _add(tar, path, data_dir)
    return count


def _files(study: Path, *, images: bool) -> Iterator[Path]:
    left_out = () if images else _IMAGES
    for path in study.iterdir():
        if path.is_dir() and path.name not in left_out:
            yield from (inner for inner in path.rglob("*") if inner.is_file() and inner.suffix != ".part")
        elif path.is_file() and path.name not in left_out and path.suffix != ".part":
            yield path


def _add(tar: tarfile.TarFile, path: Path, data_dir: Path) -> None:
    with suppress(FileNotFoundError), path.open("rb") as stream:
        tar.addfile(tar.gettarinfo(arcname=f"{_DATA}/{path.relative_to(data_dir)}", fileobj=stream), stream)


def _put_back(tar: tarfile.TarFile, data_dir: Path) -> None:
    if data_dir.is_dir() and any(data_dir.iterdir()):
        raise ConfigError(
            f"The data folder {data_dir} holds something: restore into an empty one, or none.", "data_dir_used"
        )
    restoring = data_dir / _RESTORING
    make_folder(data_dir)
    data_dir.chmod(0o700)
    make_folder(restoring)
    try:
        for member in tar:
            if member.name not in (_CONFIG, END):
                _write(tar, member, restoring / _inside(member.name))
    except BaseException:
        shutil.rmtree(restoring, ignore_errors=True)
        raise
    # With the marks there is no study that counts as one of an earlier version; the spool comes last.
    for folder in (unfinished.FOLDER, "spool"):
        make_folder(restoring / folder)
    os.sync()
    for path in sorted(restoring.iterdir(), key=lambda path: path.name == "spool"):
        path.rename(data_dir / path.name)
    restoring.rmdir()
    sync_folder(data_dir)


def _inside(name: str) -> Path:
    """Return where a member belongs in the data folder; nothing leads out of it."""
    parts = PurePosixPath(name).parts
    if parts[:1] != (_DATA,) or len(parts) < 2 or ".." in parts:
        raise ValueError(name)
    return Path(*parts[1:])


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = tar.extractfile(member) if member.isreg() else None
    if content is None:
        raise ValueError(member.name)
    make_folder(target.parent)
    with content, os.fdopen(open_own(target, os.O_WRONLY | os.O_EXCL), "wb") as stream:
        shutil.copyfileobj(content, stream)
