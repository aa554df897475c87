"""The facts of a node as Prometheus reads them; every label has few values, and none is of a patient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric

from dicom_node.watch.facts import Facts
from dicom_node.watch.pulse import BOUNDS_S, Durations, Process, Pulse

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX: Final = "dicom_node_"
METRICS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "info": ("Version of the node; always 1.", ("version",)),
    "up": ("Whether a process of the node lives.", ("process", "name")),
    "ready": ("Whether a process does what it is there for.", ("process", "name")),
    "listening": ("Whether somebody takes connections at the DICOM port.", ()),
    "index_readable": ("Whether the index of the studies can be read.", ()),
    "studies": ("Studies in each state.", ("state",)),
    "stopped_studies": ("Studies held or failed, by reason.", ("reason",)),
    "filtered_studies": ("Studies that are not for the node and still kept, by reason.", ("reason",)),
    "received_studies": ("Studies received within the last hour (1h) and day (1d).", ("within",)),
    "source_heard_seconds": ("Seconds since a source last sent something.", ("peer",)),
    "queue_age_seconds": ("How long the oldest study in the queue waits; 0 if none does.", ()),
    "undelivered_studies": ("Studies whose report waits for a destination.", ("peer",)),
    "undelivered_age_seconds": ("How long the oldest of them waits.", ("peer",)),
    "deliveries": ("Objects for a destination that wait, or were set aside.", ("peer", "status")),
    "refused_calls": ("Calls refused of late, by reason.", ("reason",)),
    "disk_free_bytes": ("Free on the disk of the data folder.", ()),
    "disk_total_bytes": ("Size of that disk.", ()),
    "disk_reserve_bytes": ("Below this nothing is received.", ()),
    "certificate_days": ("Days that a certificate still holds; less than 0 if it does not.", ("what",)),
    "gpu_used_bytes": ("Memory of the GPU of a worker that is in use.", ("name",)),
    "gpu_total_bytes": ("Memory of the GPU of a worker.", ("name",)),
    "read_studies": ("Studies read today, all and those unlike the model's.", ("kind",)),
    "step_seconds": ("Seconds of each step of a study.", ("step",)),
}
"""Every metric without its prefix ``dicom_node_``: what it says, and its labels."""
_Samples = Iterable[tuple[tuple[str, ...], float]]


def exposition(facts: Facts) -> bytes:
    """Return the facts in the text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(_Collected(facts))
    return generate_latest(registry)


class _Collected:
    """Hands the facts over as prometheus-client wants them."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        for name, (text, labels) in METRICS.items():
            if name == "step_seconds":
                yield _histogram(text, self._facts.pulses)
                continue
            family = GaugeMetricFamily(f"{_PREFIX}{name}", text, labels=labels)
            for values, number in _GATHERED[name](self._facts):
                family.add_metric(values, number)
            yield family


def _histogram(text: str, pulses: Iterable[Pulse]) -> Metric:
    """Return how long steps took, over all workers."""
    family = HistogramMetricFamily(f"{_PREFIX}step_seconds", text, labels=["step"])
    steps: dict[str, list[Durations]] = {}
    for pulse in pulses:
        for name, durations in pulse.steps.items():
            steps.setdefault(name, []).append(durations)
    for name, all_of_it in sorted(steps.items()):
        within = [sum(counts) for counts in zip(*(each.within for each in all_of_it), strict=True)]
        count = sum(each.count for each in all_of_it)
        buckets = [(str(bound), float(number)) for bound, number in zip(BOUNDS_S, within, strict=True)]
        family.add_metric([name], [*buckets, ("+Inf", float(count))], sum(each.sum_s for each in all_of_it))
    return family


def _of_studies(facts: Facts, name: str) -> _Samples:
    values: Mapping[str, int] = getattr(facts.studies, name) if facts.studies else {}
    return [((key,), value) for key, value in sorted(values.items())]


def _heard(facts: Facts) -> _Samples:
    heard = facts.studies.heard_s if facts.studies else {}
    return [((peer,), max(facts.now_s - last_s, 0)) for peer, last_s in sorted(heard.items())]


def _queue_age(facts: Facts) -> _Samples:
    if facts.studies is None:
        return []
    since_s = facts.studies.queued_since_s
    return [((), 0 if since_s is None else max(facts.now_s - since_s, 0))]


def _undelivered(facts: Facts, *, ages: bool) -> _Samples:
    waiting = facts.studies.undelivered if facts.studies else ()
    return [((each.peer,), max(facts.now_s - each.since_s, 0) if ages else each.studies) for each in waiting]


def _deliveries(facts: Facts) -> _Samples:
    for peer, each in sorted((facts.deliveries or {}).items()):
        yield (peer, "waiting"), each.waiting
        yield (peer, "set_aside"), each.set_aside


def _read(facts: Facts) -> _Samples:
    today = max((day for pulse in facts.pulses for day in pulse.days), default="")
    days = [pulse.days[today] for pulse in facts.pulses if today in pulse.days]
    return [
        (("all",), sum(day.read for day in days)),
        (("out_of_range",), sum(day.out_of_range for day in days)),
    ]


def _gpus(facts: Facts) -> Iterator[Pulse]:
    return (p for p in facts.pulses if p.process is Process.WORKER and p.memory and p.lives(facts.now_s))


_GATHERED: Final[Mapping[str, Callable[[Facts], _Samples]]] = {
    "info": lambda facts: [((facts.version,), 1)],
    "up": lambda facts: [((p.process, p.name), p.lives(facts.now_s)) for p in facts.pulses],
    "ready": lambda facts: [((p.process, p.name), p.ready and p.lives(facts.now_s)) for p in facts.pulses],
    "listening": lambda facts: [((), facts.listening)],
    "index_readable": lambda facts: [((), facts.studies is not None)],
    "studies": lambda facts: _of_studies(facts, "states"),
    "stopped_studies": lambda facts: _of_studies(facts, "reasons"),
    "filtered_studies": lambda facts: _of_studies(facts, "filtered"),
    "received_studies": lambda facts: _of_studies(facts, "received"),
    "source_heard_seconds": _heard,
    "queue_age_seconds": _queue_age,
    "undelivered_studies": lambda facts: _undelivered(facts, ages=False),
    "undelivered_age_seconds": lambda facts: _undelivered(facts, ages=True),
    "deliveries": _deliveries,
    "refused_calls": lambda facts: [((reason,), count) for reason, count in sorted(facts.refused.items())],
    "disk_free_bytes": lambda facts: [((), facts.free_bytes)],
    "disk_total_bytes": lambda facts: [((), facts.total_bytes)],
    "disk_reserve_bytes": lambda facts: [((), facts.reserve_bytes)],
    "certificate_days": lambda facts: [((c.what,), c.days if c.holds else min(c.days, -1)) for c in facts.certificates],
    "gpu_used_bytes": lambda facts: [((p.name,), p.memory.used_bytes) for p in _gpus(facts) if p.memory],
    "gpu_total_bytes": lambda facts: [((p.name,), p.memory.total_bytes) for p in _gpus(facts) if p.memory],
    "read_studies": _read,
}
