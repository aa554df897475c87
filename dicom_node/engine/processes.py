"""The processes of a node: the receiver and the workers; each holds its name before it loads anything."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from dicom_node.config import Config
from dicom_node.engine import workflow
from dicom_node.engine.contract import Reading
from dicom_node.engine.ending import end_at_once, end_now, until_signal
from dicom_node.engine.held_name import held_name
from dicom_node.engine.housekeeping import housekeeping
from dicom_node.engine.taking_over import taking_over
from dicom_node.engine.underway import Underway
from dicom_node.errors import AlreadyRunningError
from dicom_node.net.counts import counting_peers
from dicom_node.net.scp import Receiver
from dicom_node.studies.announced import Announcements
from dicom_node.studies.audited_collector import AuditedCollector
from dicom_node.studies.collect import Collector
from dicom_node.studies.completeness import WaitingRules
from dicom_node.studies.evidence import Evidence
from dicom_node.studies.spool import Spool, Study
from dicom_node.watch.pulse import Beating, Process, beating

_GB = 10**9


class _Queue:
    """The way into the queues, opened for the first study that is complete: receiving needs no database."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._engine: workflow.Engine | None = None

    def submit(self, study: Study, reason: str, digest: str) -> None:
        if self._engine is None:
            workflow.migrate(self._config)
            self._engine = workflow.Engine(self._config)
        self._engine.submit(study, reason, digest)


def receive(config: Config, file: Path | None = None) -> None:
    """Receive and collect studies until a signal.

    Parameters
    ----------
    config, file
        Of the node; the file takes effect when it becomes another one.

    Raises
    ------
    AlreadyRunningError
        If another process receives for this data folder.
    ConfigError
        If the port cannot be opened.
    """
    taken = AlreadyRunningError("A receiver of this data folder is running: stop it first.", "receiver_running")
    with held_name(config.node.data_dir, "receiver", taken):
        spool = Spool(config.node.data_dir, int(config.receive.disk_reserve_gb * _GB))
        queue = _Queue(config)
        rules = WaitingRules(config.receive.quiet_s, config.receive.deadline_s, config.receive.settle_s)
        announcements = Announcements(config.node.data_dir)
        evidence = Evidence(spool, config.selection, announcements, counting_peers(config))
        collector = Collector(spool, rules, queue.submit, evidence=evidence)
        receiver = Receiver(config, spool, AuditedCollector(collector, spool), announcements)

        def take(changed: Config) -> None:
            evidence.rules = changed.selection
            receiver.reconfigure(changed)

        with beating(config.node.data_dir, Process.RECEIVER, "receiver") as pulse, until_signal() as stop:
            receiver.start()
            collector.start()
            pulse.ready()
            with housekeeping(config, spool), taking_over(file, config, take):
                stop.wait()
            receiver.stop()
            collector.stop()
        end_now()


def work(
    config: Config,
    executor: str | None = None,
    opened: Callable[[Config, Spool], Reading] | None = None,
    file: Path | None = None,
) -> None:
    """Read studies on the configured device, and deliver, until a signal.

    While models load, a signal ends the process at once.

    Parameters
    ----------
    config
        Of the node.
    executor
        Name of this worker, stable over restarts; default host and device.
    opened
        Loads what selects and reads; default the models of the configuration.
    file
        Of the configuration, which takes effect when it becomes another one.

    Raises
    ------
    AlreadyRunningError
        If another process has the name of this worker.
    NodeError
        If the database, or bundle, weights or device are unusable.
    """
    name = executor or default_executor(config)
    taken = AlreadyRunningError(f"A worker named {name} is running: stop it first.", "worker_running")
    with held_name(config.node.data_dir, name, taken):
        workflow.migrate(config)
        with beating(config.node.data_dir, Process.WORKER, name) as pulse:
            _work(config, name, opened, pulse, file)
        # Threads of the engine and of deliveries may wait for what is away.
        end_now()


def _work(
    config: Config,
    name: str,
    opened: Callable[[Config, Spool], Reading] | None,
    pulse: Beating,
    file: Path | None,
) -> None:
    from dicom_node.engine.sending import sending  # noqa: PLC0415 - reads results, which the receiver never does

    spool = Spool(config.node.data_dir)
    underway = Underway(spool, pulse.step)

    def hurry(number: int) -> None:
        underway.forgive()
        end_at_once(number)

    # What is due is delivered while the models load, and if they cannot be.
    with sending(config, spool, name, file) as delivering:
        reading = opened(config, spool) if opened else _with_models(config, spool, pulse)
        pulse.ready()
        take = getattr(reading, "reconfigure", None)
        with taking_over(file if take else None, config, take), until_signal(hurry) as stop:
            workflow.run(reading, delivering, config, name, underway, stop)


def _with_models(config: Config, spool: Spool, pulse: Beating) -> Reading:
    from dicom_node.engine import worker  # noqa: PLC0415 - imports torch, which the receiver never does

    hands = worker.open_worker(config, spool, pulse.read)
    pulse.look_at_memory(hands.memory)
    pulse.loaded(hands.loaded)
    return hands


def default_executor(config: Config) -> str:
    """Return the name under which this machine's worker finds its unfinished work again."""
    return f"{socket.gethostname()}-{config.model.device.replace(':', '')}"
