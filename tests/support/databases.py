"""A PostgreSQL that tests start, stop, and break connections of."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from dicom_node.net.held_port import held_port
from tests.support.services import ENDS_WITH_US, require, wait_for

POSTGRES = Path("/usr/lib/postgresql")


def postgres_tool(name: str) -> Path:
    """Return a program of the newest PostgreSQL, or skip aloud."""
    folders = sorted(POSTGRES.glob("*/bin"), key=lambda folder: int(folder.parent.name))
    tool = (folders[-1] if folders else POSTGRES) / name
    require(tool)
    return tool


@dataclass
class Postgres:
    """A server of its own on loopback; trusts everybody, and forgets what the disk does not have."""

    folder: Path
    port: int
    _server: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextmanager
    def running(cls, folder: Path) -> Iterator[Postgres]:
        """Yield a server that runs as long as the block, unless it is stopped."""
        data = folder / "postgres"
        data.mkdir()
        if os.getuid() == 0:
            shutil.chown(data, "nobody")
            for parent in (folder, *folder.parents):
                if parent.stat().st_uid == 0 and parent not in (Path("/"), Path("/tmp")):
                    parent.chmod(parent.stat().st_mode | 0o011)
        subprocess.run([postgres_tool("initdb"), "-D", data, "-U", "node", "-A", "trust"], check=True, **_as_user())
        with held_port() as port:
            server = cls(data, port)
            server.start()
            try:
                yield server
            finally:
                server.stop()

    @property
    def url(self) -> str:
        """What `node.database_url` is to say."""
        return f"postgresql+psycopg://node@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = ["-c", f"port={self.port}", "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        command: list[str | Path] = [
            *ENDS_WITH_US,
            str(os.getpid()),
            postgres_tool("postgres"),
            "-D",
            self.folder,
            *options,
        ]
        self._server = subprocess.Popen([*command, "-k", self.folder], **_as_user())
        ready: list[str | Path] = [postgres_tool("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        wait_for(lambda: subprocess.run(ready, check=False).returncode == 0, 60, "PostgreSQL")

    def stop(self) -> None:
        """Stop at once, as SIGINT asks: every connection is cut."""
        if self._server is not None:
            self._server.send_signal(2)
            self._server.wait(60)
            self._server = None

    @contextmanager
    def locked(self, table: str) -> Iterator[Callable[[], int]]:
        """Let whoever uses a table wait, until all connections are cut or the block ends; yield how many wait."""
        with psycopg.connect(host="127.0.0.1", port=self.port, user="node", dbname="postgres") as connection:
            connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            with suppress(psycopg.OperationalError):
                yield lambda: (connection.execute(waiting).fetchone() or (0,))[0]
                connection.rollback()

    def cut(self) -> None:
        """Cut every connection from the server's side."""
        sql = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'node'"
        )
        where: list[str | Path] = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "node"]
        subprocess.run([postgres_tool("psql"), "-q", *where, "-c", sql, "postgres"], check=False, **_as_user())


def _as_user() -> dict[str, Any]:
    user = "nobody" if os.getuid() == 0 else None
    return {"user": user, "cwd": "/", "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
