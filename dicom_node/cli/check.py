"""Check that everything is there that the node needs: ``dicom-node check``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from dicom_node.config import Config, Peer
from dicom_node.errors import NodeError, SpoolFull
from dicom_node.net import scu
from dicom_node.net.commitment_trial import try_commitment
from dicom_node.studies.spool import Spool

_GB = 10**9


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome of one check."""

    what: str
    good: bool
    sentence: str


def check(config: Config) -> list[Verdict]:
    """Return a verdict on data folder, database, models, device, every peer, and the way back of its commitments."""
    checks: list[tuple[str, Callable[[Config], str]]] = [
        ("data folder", _data_folder),
        ("database", _database),
        ("models and device", models_and_device),
    ]
    called = [peer for peer in config.peers if peer.port is not None]
    verdicts = [verdict(what, partial(function, config)) for what, function in checks]
    verdicts += [verdict(f"peer {peer.name}", partial(_echo, config, peer)) for peer in called]
    committing = [peer for peer in config.destinations if peer.verify == "commitment"]
    return verdicts + [verdict(f"commitment {peer.name}", partial(try_commitment, config, peer)) for peer in committing]


def verdict(what: str, function: Callable[[], str]) -> Verdict:
    """Return the outcome of one check: a good one is the sentence that `function` returns, its errors are bad ones."""
    try:
        return Verdict(what, True, function())
    except NodeError as error:
        return Verdict(what, False, f"{error.code}: {error}")
    except Exception as error:
        return Verdict(what, False, f"unexpected: {type(error).__name__}")


def _data_folder(config: Config) -> str:
    free_gb = Spool(config.node.data_dir).free_bytes() / _GB
    if free_gb < config.receive.disk_reserve_gb:
        raise SpoolFull(f"{free_gb:.1f} GB free, less than disk_reserve_gb: free space on the disk.")
    return f"{config.node.data_dir}, {free_gb:.0f} GB free"


def _database(config: Config) -> str:
    from dicom_node.engine import workflow  # The engine brings its tables: only it can say whether they fit.

    try:
        workflow.migrate(config)
    except Exception as error:
        raise NodeError(
            f"The database cannot be used ({type(error).__name__}): check node.database_url.", "database_unusable"
        ) from None
    return "PostgreSQL" if config.node.database_url else "SQLite in the data folder"


def models_and_device(config: Config) -> str:
    """Return a sentence on the loaded models; raise what their loading raises."""
    from dicom_node.engine.installed import open_models

    models = open_models(config)
    other = models.bundle.metadata.range.other_brain_weights(models.brain_weights.digest)
    return (
        f"{models.identity.notice}; bundle {models.identity.name} {models.identity.version}, "
        f"brain weights {models.brain_weights.name} {models.brain_weights.digest[:12]}"
        f"{' (not those of the training of the bundle)' if other else ''}, on {models.ensemble.device}"
    )


def _echo(config: Config, peer: Peer) -> str:
    return f"C-ECHO answered in {1000 * scu.echo(config, peer):.0f} ms"
