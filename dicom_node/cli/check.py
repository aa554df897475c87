"""Check that everything is there that the node needs: ``dicom-node check``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from dicom_node.config import Config, Peer
from dicom_node.errors import NodeError, SpoolFull
from dicom_node.net import fhir, scu
from dicom_node.net.association import CONNECT_TIMEOUT_S
from dicom_node.net.certificates import configured_certificates
from dicom_node.net.commitment_trial import try_commitment
from dicom_node.net.expiry import Expiry, Standing, expiry_of, first_to_expire
from dicom_node.net.refused import read_refused
from dicom_node.net.tls import greet, server_context
from dicom_node.net.tls_faults import fault_of
from dicom_node.studies.spool import Spool

_GB = 10**9


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome of one check; a warning is good today."""

    what: str
    good: bool
    sentence: str
    warning: bool = False


def check(config: Config, *, quick: bool = False) -> list[Verdict]:
    """Return a verdict on data folder, database, models, device, certificates, every peer and its commitments.

    Parameters
    ----------
    config
        Of the node.
    quick
        Whether models and peers are left out.
    """
    verdicts = [verdict(what, partial(tried, config)) for what, tried in _CHECKS if not (quick and tried in _SLOW)]
    verdicts += _tls(config)
    if quick:
        return verdicts + _refused_callers(config)
    called = [peer for peer in config.peers if peer.port is not None]
    verdicts += [verdict(f"peer {peer.name}", partial(_echo, config, peer)) for peer in called]
    verdicts += [_shown(config, peer) for peer in called if peer.tls]
    committing = [peer for peer in config.destinations if peer.verify == "commitment"]
    verdicts += [verdict(f"commitment {peer.name}", partial(try_commitment, config, peer)) for peer in committing]
    verdicts += [verdict(f"server {server.name}", partial(fhir.reach, server)) for server in config.fhir_servers]
    return verdicts + _refused_callers(config)


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


_CHECKS: Final[tuple[tuple[str, Callable[[Config], str]], ...]] = (
    ("data folder", _data_folder),
    ("database", _database),
    ("models and device", models_and_device),
)
_SLOW: Final = frozenset({models_and_device})


def _tls(config: Config) -> list[Verdict]:
    """Return a verdict on every file of TLS: that it can be used, and for how long."""
    files = [_certificates(what, file) for what, file in configured_certificates(config)]
    return [*files, verdict("TLS", partial(_port, config))] if config.tls.certificate else files


def _certificates(what: str, file: Path) -> Verdict:
    try:
        return _expiry(what, first_to_expire(file))
    except NodeError as error:
        return Verdict(what, False, f"{error.code}: {error}")


def _expiry(what: str, expiry: Expiry) -> Verdict:
    return Verdict(what, expiry.holds, expiry.sentence, expiry.standing is not Standing.GOOD)


def _port(config: Config) -> str:
    server_context(config)
    return f"profile {config.tls.profile}, " + (f"port {config.tls.port}" if config.tls.port else "no port of its own")


def _shown(config: Config, peer: Peer) -> Verdict:
    """Return a verdict on the certificate that a peer shows; why it shows none stands at its C-ECHO."""
    what = f"certificate that {peer.name} shows"
    try:
        greeted = greet(config, peer, CONNECT_TIMEOUT_S)
    except NodeError as error:
        return Verdict(what, False, f"{error.code}: {error}")
    except OSError as error:
        return Verdict(what, False, f"{fault_of(error)}: it was not accepted, or not shown")
    assert greeted.shown
    return _expiry(what, expiry_of(greeted.shown.certificate))


def _refused_callers(config: Config) -> list[Verdict]:
    """Return a verdict if callers were refused of late: strangers are no fault of the node."""
    refused = read_refused(config.node.data_dir)
    if not refused:
        return []
    last = refused[0]
    who = f"{last.title or 'somebody'} at {last.address}, on {last.last}"
    sentence = f"{len(refused)} refused; the last was {who}: {last.sentence} See `dicom-node callers`."
    return [Verdict("callers", True, sentence, warning=True)]


def _echo(config: Config, peer: Peer) -> str:
    return f"C-ECHO answered in {1000 * scu.echo(config, peer):.0f} ms"
