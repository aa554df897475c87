"""A made cohort: one DICOM study a patient, with a label that its tubers decide.

It shows that the machinery learns and that it does not leak. It is no evidence about patients.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydantic import TypeAdapter
from threadpoolctl import threadpool_limits

from models.bundle import ModelError
from models.contrast import Contrast
from models.whole_files import write_whole
from pipeline.synthetic.dicom_series import write_series
from pipeline.synthetic.hard_cases import Difficulty, difficulty_of, image_faults, made_hard
from pipeline.synthetic.label_rule import RULE, achievable_auc, mean_burden_ml, probability, reached_auc
from pipeline.synthetic.rendering import Plane, render
from pipeline.synthetic.study_files import Acquisition
from pipeline.synthetic.study_tags import StudyTags, derive_uid, series_tags
from pipeline.synthetic.tubers import FEW, MANY, Load, Tuber, TuberLoad, place_tubers
from pipeline.synthetic.warp import BaseAnatomy, base_anatomies, read_base, warp

LABELS = "labels.csv"
FACTS = "synthetic.json"
STUDIES = "studies"
UNDER_WAY = "under-way"
"""Folder with what is known of the patients made so far; gone once all are there."""
ALL_ROLES = tuple(Contrast)
STATEMENT = (
    "Synthetic data, no patient: heads drawn from label maps or by procedure, with drawn tubers. The label follows "
    "from the tubers by a made-up rule and says nothing about epilepsy or its treatment."
)
ACQUISITIONS = {
    Contrast.T1W: Acquisition(Plane.AXIAL, (2.0, 2.0, 3.0)),
    Contrast.T2W: Acquisition(Plane.AXIAL, (2.0, 2.0, 4.0)),
    Contrast.FLAIR: Acquisition(Plane.AXIAL, (2.0, 2.0, 4.0)),
}
"""Coarse, for a model grid of 2 x 2 x 3 mm."""
FEWEST_PATIENTS = 2
"""Two that follow each other are a pair, one with few tubers and one with many."""
AGES = 1, 17
_GROWTH = (1.0, 2.0, 5.0, 10.0, 17.0), (0.87, 0.91, 0.96, 0.98, 1.0)
"""Edge of a head against an adult's, by years; the maps are of adults."""
_SCALE_SPREAD, _SCALES = 0.03, (0.8, 1.1)
_INCLUSION = {"tsc": "yes", "epilepsy": "yes", "resected": "no", "mri_after_asm": "no", "follow_up_months": "12"}
_STUDY_DATE = "20250101"


@dataclass(frozen=True, slots=True)
class MadePatient:
    """What is known of one made patient.

    Attributes
    ----------
    patient, study_uid, group, age_years, scale
        Name, Study Instance UID, base anatomy, age, and size of the head against its base.
    load
        The ranges that its tubers were drawn from.
    tubers
        With their contrasts in the sequences that show them.
    burden_ml, mean_burden_ml
        By sequence, and what the rule uses.
    probability, label
        Of label 1, without noise; and the label drawn with it.
    """

    patient: str
    study_uid: str
    group: str
    age_years: int
    scale: float
    load: Load
    tubers: tuple[Tuber, ...]
    burden_ml: dict[Contrast, float]
    mean_burden_ml: float
    probability: float
    label: int
    difficulty: Difficulty = Difficulty.PLAIN


_MADE = TypeAdapter(MadePatient)


def synthesize_cohort(
    label_maps: Path | None,
    patients: int,
    out: Path,
    *,
    seed: int,
    signal: tuple[Contrast, ...] = ALL_ROLES,
    tell: Callable[[str], None] = lambda _: None,
    workers: int = 1,
    drawn_heads: int = 0,
    hard_share: float = 0.0,
) -> Path:
    """Return the ``labels.csv`` of a new synthetic cohort.

    Parameters
    ----------
    label_maps
        Folder of NIfTI label maps; None for procedural heads.
    patients
        How many. A patient does not depend on how many there are; two that follow each other share a base
        anatomy and have few tubers and many, so that the anatomy says nothing about the label.
    out
        New or empty folder, or one in which making the same cohort was cut off; gets ``labels.csv``,
        ``synthetic.json`` and ``studies/``.
    seed
        The same seed and maps give the same bytes.
    signal
        The sequences that show tubers. The others show none at all.
    tell
        Called with a line on the progress after each patient.
    workers
        Processes; 1 computes in this one.
    drawn_heads
        Procedural heads besides those of the label maps.
    hard_share
        Of the pairs of patients that are hard in one of the ways of `Difficulty`.

    Returns
    -------
    pathlib.Path
        In `out`, with a line for each patient.

    Raises
    ------
    ModelError
        ``cohort_request_wrong``, ``cohort_folder_not_empty``, ``label_maps_missing``, ``label_map_unreadable`` or
        ``label_map_unknown``.
    """
    signal = tuple(role for role in Contrast if role in signal)
    if patients < FEWEST_PATIENTS or not signal or workers < 1 or not 0 <= hard_share <= 1:
        raise ModelError("cohort_request_wrong", "A cohort needs two patients, a sequence with signal and a worker.")
    bases = base_anatomies(label_maps, seed, drawn_heads)
    _claim(out, {"seed": seed, "signal": signal, "hard_share": hard_share, "bases": [base.group for base in bases]})
    orders = [_Order(index, base_of(index, bases), seed, signal, out, hard_share) for index in range(patients)]
    made: list[MadePatient] = []
    for patient in _made_by(workers, sorted(orders, key=lambda order: (order.base.group, order.index))):
        made.append(patient)
        tell(f"{len(made)} of {patients} synthetic patients")
    made.sort(key=lambda patient: patient.patient)
    _write_facts(out / FACTS, made, bases, seed, signal)
    labels = _write_labels(out / LABELS, made)
    shutil.rmtree(out / UNDER_WAY)
    return labels


def _claim(out: Path, request: dict[str, object]) -> None:
    """Make the folder that of a request, or refuse it: what lies there may be another cohort, or something else."""
    file, said = out / UNDER_WAY / "request.json", json.dumps(request)
    if out.exists() and any(out.iterdir()) and not (file.is_file() and file.read_text("utf-8") == said):
        raise ModelError("cohort_folder_not_empty", f"{out} is not empty: name a new folder for the cohort.")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, said.encode())


@dataclass(frozen=True, slots=True)
class _Order:
    """One patient to be made."""

    index: int
    base: BaseAnatomy
    seed: int
    signal: tuple[Contrast, ...]
    out: Path
    hard_share: float

    @property
    def patient(self) -> str:
        return f"SYNTHETIC-{self.seed}-{self.index + 1:04d}"

    @property
    def difficulty(self) -> Difficulty:
        return difficulty_of(self.index // 2, self.seed, self.hard_share)

    @property
    def record(self) -> Path:
        """What is known of the patient, once it is made."""
        return self.out / UNDER_WAY / f"{self.patient}.json"


def base_of(index: int, bases: tuple[BaseAnatomy, ...]) -> BaseAnatomy:
    """Return the base anatomy of a patient: each in turn, for two patients at a time.

    Parameters
    ----------
    index
        Number of the patient, from 0.
    bases
        Of the cohort, at least one.

    Returns
    -------
    BaseAnatomy
        The same for both patients of a pair.
    """
    return bases[index // 2 % len(bases)]


def make_head(base: BaseAnatomy, index: int, seed: int) -> tuple[sitk.Image, int, float]:
    """Return the head of a patient, before it has tubers.

    Parameters
    ----------
    base
        Anatomy that the head is bent from.
    index, seed
        Number of the patient, from 0, and seed of the cohort; the same two give the same head.

    Returns
    -------
    tuple of SimpleITK.Image, int and float
        Labels as `warp` returns them, age in years, and size against the base.
    """
    random = np.random.default_rng([seed, index, 0])
    age = int(random.integers(AGES[0], AGES[1] + 1))
    scale = float(np.clip(np.interp(age, *_GROWTH) + random.normal(0, _SCALE_SPREAD), *_SCALES))
    return warp(read_base(base), random, scale), age, scale


def _made_by(workers: int, orders: list[_Order]) -> Iterator[MadePatient]:
    """Yield the patients as they are made, those of one base anatomy after each other."""
    if workers == 1:
        yield from map(_make, orders)
        return
    # Spawned: a forked process would inherit locked threads of PyTorch and SimpleITK.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_make, orders)


def _make(order: _Order) -> MadePatient:
    """Return a patient whose study is written, now or before the making of the cohort was cut off."""
    if order.record.is_file():
        return _MADE.validate_json(order.record.read_bytes())
    shutil.rmtree(order.out / STUDIES / order.patient, ignore_errors=True)
    made = _made(order)
    write_whole(order.record, _MADE.dump_json(made))
    return made


def _made(order: _Order) -> MadePatient:
    with _one_thread():
        head, age, scale = make_head(order.base, order.index, order.seed)
        load = MANY if _has_many(order) else FEW
        placed = place_tubers(head, load, np.random.default_rng([order.seed, order.index, 1]))
        head, placed = made_hard(order.difficulty, head, placed, np.random.default_rng([order.seed, order.index, 6]))
        study = _study_tags(order, age)
        _write_study(order, study, head, placed)
    burden_ml = {role: placed.burden_ml(role) if role in order.signal else 0.0 for role in Contrast}
    burden = mean_burden_ml(burden_ml, order.signal)
    chance = probability(burden)
    return MadePatient(
        patient=order.patient,
        study_uid=study.study_uid,
        group=order.base.group,
        age_years=age,
        scale=scale,
        load=load,
        tubers=tuple(_shown(tuber, order.signal) for tuber in placed.tubers),
        burden_ml=burden_ml,
        mean_burden_ml=burden,
        probability=chance,
        label=int(np.random.default_rng([order.seed, order.index, 2]).random() < chance),
        difficulty=order.difficulty,
    )


def _has_many(order: _Order) -> bool:
    """Return whether a patient gets many tubers: one of each pair does, which one is drawn."""
    first = int(np.random.default_rng([order.seed, order.index // 2, 3]).integers(2))
    return order.index % 2 == first


def _study_tags(order: _Order, age: int) -> StudyTags:
    signal = "+".join(order.signal) + ("" if order.difficulty is Difficulty.PLAIN else f"+{order.difficulty}")
    return StudyTags(
        study_uid=derive_uid("synthetic cohort", order.seed, order.base.group, order.index, signal),
        patient_name=f"SYNTHETIC^{order.seed}-{order.index + 1:04d}",
        patient_id=order.patient,
        birth_date=f"{int(_STUDY_DATE[:4]) - age}{_STUDY_DATE[4:]}",
        study_date=_STUDY_DATE,
        age=f"{age:03d}Y",
    )


def _write_study(order: _Order, study: StudyTags, head: sitk.Image, load: TuberLoad) -> None:
    noise_seed = int(np.random.SeedSequence([order.seed, order.index, 4]).generate_state(1)[0])
    for role, acquisition in ACQUISITIONS.items():
        volume = render(
            head, role, spacing_xyz_mm=acquisition.spacing_xyz_mm, seed=noise_seed, plane=acquisition.plane,
            brain_slices=acquisition.plane is Plane.AXIAL, tubers=load.shares[role] if role in order.signal else None,
            **image_faults(order.difficulty),
        )  # fmt: skip
        tags = replace(series_tags(role, plane=acquisition.plane), model="Synthetic cohort")
        write_series(volume, order.out / STUDIES / order.patient / role, study, tags)


def _shown(tuber: Tuber, signal: tuple[Contrast, ...]) -> Tuber:
    return replace(tuber, contrast={role: tuber.contrast[role] for role in signal})


def _write_labels(file: Path, made: list[MadePatient]) -> Path:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["patient", "study", "label", "group", "subgroup", *_INCLUSION])
    for one in made:
        table.writerow(
            [one.patient, f"{STUDIES}/{one.patient}", one.label, one.group, one.difficulty, *_INCLUSION.values()]
        )
    write_whole(file, text.getvalue().encode())
    return file


def _write_facts(
    file: Path, made: list[MadePatient], bases: tuple[BaseAnatomy, ...], seed: int, signal: tuple[Contrast, ...]
) -> None:
    used = {one.group for one in made}
    chances = [one.probability for one in made]
    facts = {
        "statement": f"{STATEMENT} {RULE} Sequences that show tubers: {', '.join(signal)}.",
        "rule": RULE,
        "seed": seed,
        "signal": [role.value for role in signal],
        "anatomies": {base.group: base.origin for base in bases if base.group in used},
        "auc_of_the_rule_without_noise": 1.0,
        "auc_achievable": round(achievable_auc(chances), 4),
        "auc_of_the_probability_for_these_labels": reached_auc(chances, [one.label for one in made]),
        "labelled_1": sum(one.label for one in made),
        "patients": {one.patient: _as_json(one) for one in made},
    }
    write_whole(file, (json.dumps(facts, indent=1) + "\n").encode())


def _as_json(one: MadePatient) -> dict[str, object]:
    burden_ml = {role.value: ml for role, ml in one.burden_ml.items()} | {"patient": one.mean_burden_ml}
    return {
        "study_uid": one.study_uid,
        "group": one.group,
        "age_years": one.age_years,
        "scale": round(one.scale, 4),
        "load": one.load.name,
        "difficulty": one.difficulty,
        "tuber_count": len(one.tubers),
        "tuber_volume_ml": round(sum(tuber.volume_ml for tuber in one.tubers), 3),
        "burden_ml": {name: round(ml, 4) for name, ml in burden_ml.items()},
        "probability": round(one.probability, 6),
        "label": one.label,
        "tubers": [asdict(tuber) for tuber in one.tubers],
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one core: matrix products may round otherwise with more, and workers share the machine."""
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
