"""Debian's PostgreSQL for tests: a cluster of its own on a loopback port, ended with the block."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_node.net.held_port import held_port
from tests.support.services import require, started, wait_for

_VERSIONS = Path("/usr/lib/postgresql")


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Yield the URL of an empty database; root hands the cluster to the system's user of that name."""
    programs = max(_VERSIONS.glob("*/bin"), default=_VERSIONS / "bin")
    require(programs / "initdb", programs / "postgres")
    cluster = folder / "cluster"
    as_user: list[str | Path] = []
    cluster.mkdir()
    if os.geteuid() == 0:
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
        user = pwd.getpwnam("postgres")
        os.chown(cluster, user.pw_uid, user.pw_gid)
        for parent in cluster.parents:
            if parent.stat().st_uid == 0 and parent not in (Path("/"), Path("/tmp")):
                parent.chmod(parent.stat().st_mode | 0o011)
    made = [*as_user, programs / "initdb", "-D", cluster, "-U", "node", "--auth=trust", "--no-sync"]
    subprocess.run(made, check=True, capture_output=True)
    with held_port() as port:
        run = [*as_user, programs / "postgres", "-D", cluster, "-p", str(port), "-k", cluster, "-c", "fsync=off"]
        ready = [str(programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(port)]
        with started(run, folder / "postgres.log", port):
            wait_for(lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0, 60, "PostgreSQL")
            yield f"postgresql+psycopg://node@127.0.0.1:{port}/postgres"
