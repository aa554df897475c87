"""How long ``dicom-node explain`` takes to tell what a study holds, against dcm2niix converting the same folder.

Run with ``python -m tests.benchmarks.explain [--instances N] [--repeat N] [--readers] [--json]``. The study has three
series that fill the three roles, so that everything is done that a selection takes: every header is read, every series
judged and passed through the geometry gate, and every selected file hashed. It is made of the real MPRAGE of the test
data, whose headers are as long as scanners write them, or of noise where that is absent. Both programs are started as
their users start them, by turns, after one run of each that warms the disk cache; the medians count, of the time that
passes and of the time that processors work, which a busy machine changes less. ``--readers`` reads the headers alone
too, once as explain does and once with pydicom for every file: the difference is what `pipeline.headers.quick` saves.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.uid import UID

from models.contrast import Contrast
from pipeline.synthetic import SeriesTags, StudyTags, derive_uid, series_tags, write_series
from tests.support.services import DATA

SCRIPTS = Path(sys.executable).parent
DICOM_NODE, DCM2NIIX = SCRIPTS / "dicom-node", SCRIPTS / "dcm2niix"
KINDS = ("passed", "processor")
LEAST_INSTANCES = 3 * 24
"""Three series of 24 slices, the fewest that cover a head in slices of 5 mm."""
STUDY = StudyTags(study_uid=derive_uid("benchmark explain"))


def make_study(folder: Path, instances: int) -> str:
    """Write a study of three series and return what it is made of."""
    source = sorted((DATA / "philips-mprage").glob("*"))
    shares = [len(share) for share in np.array_split(range(instances), 3)]
    for role, slices in zip(Contrast, shares, strict=True):
        if slices <= len(source):
            _copy_series(source, slices, folder, series_tags(role))
        else:
            _write_noise(slices, folder, series_tags(role))
    return "the MPRAGE of the test data" if max(shares) <= len(source) else "noise"


def _copy_series(source: list[Path], slices: int, folder: Path, tags: SeriesTags) -> None:
    """Copy evenly spread files of a series under UIDs, description and timing of another."""
    every = max(1, len(source) // slices)
    series_uid = derive_uid(STUDY.study_uid, tags.number)
    for number, path in enumerate(source[: slices * every : every]):
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY.study_uid, series_uid
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(derive_uid(series_uid, number))
        dataset.SeriesNumber, dataset.SeriesDescription = tags.number, tags.description
        dataset.ProtocolName, dataset.SequenceName = tags.protocol, tags.sequence_name
        dataset.RepetitionTime, dataset.EchoTime, dataset.InversionTime = tags.tr_ms, tags.te_ms, tags.ti_ms
        dataset.ScanningSequence = list(tags.scanning_sequence)
        dataset.ImageType = list(tags.image_type)
        dataset.save_as(folder / f"{tags.number}-{number:04d}.dcm")


def _write_noise(slices: int, folder: Path, tags: SeriesTags) -> None:
    values = np.random.default_rng(tags.number).integers(0, 4096, (slices, 256, 256)).astype(np.int16)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((1.0, 1.0, max(1.0, 120.0 / slices)))
    write_series(image, folder, STUDY, tags)


def _explain(study: Path) -> None:
    done = subprocess.run([DICOM_NODE, "explain", study, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["state"] == "ready"


def _convert(study: Path) -> None:
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run([DCM2NIIX, "-g", "i", "-o", out, study], capture_output=True, text=True, check=True)
        assert len(list(Path(out).glob("*.nii"))) == 3, done.stdout


def _explain_alone(study: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipeline.explain import explain\n"
        "from pipeline.select import select_study\n"
        "assert explain(select_study(Path(sys.argv[1]).iterdir())).reason is None"
    )
    subprocess.run([sys.executable, "-c", code, study], check=True, cwd=Path(__file__).parents[2])


def _read_headers(study: Path) -> None:
    _python("read_headers(Path(sys.argv[1]).iterdir())", study)


def _read_headers_by_pydicom(study: Path) -> None:
    _python("instance.read_quickly = lambda path: None; read_headers(Path(sys.argv[1]).iterdir())", study)


def _python(code: str, study: Path) -> None:
    imports = "import sys; from pathlib import Path; from pipeline.headers import instance, read_headers\n"
    subprocess.run([sys.executable, "-c", imports + code, study], check=True, cwd=Path(__file__).parents[2])


def _run(*command: str | Path) -> Callable[[Path], None]:
    def run(_: Path) -> None:
        subprocess.run(command, capture_output=True, check=False)

    return run


PARTS: dict[str, Callable[[Path], None]] = {
    "dicom-node explain": _explain,
    "dcm2niix": _convert,
    "without command line": _explain_alone,
    "starting Python": _run(sys.executable, "-c", "pass"),
    "starting dicom-node": _run(DICOM_NODE, "--help"),
    "starting dcm2niix": _run(DCM2NIIX, "--version"),
}
READERS: dict[str, Callable[[Path], None]] = {
    "headers alone": _read_headers,
    "headers by pydicom": _read_headers_by_pydicom,
}


def measure(instances: int, repeat: int, *, readers: bool = False) -> dict[str, Any]:
    """Return the median seconds of each program, and how many times as long explain takes as dcm2niix."""
    with tempfile.TemporaryDirectory() as name:
        study = Path(name) / "study"
        study.mkdir()
        made_of = make_study(study, instances)
        size_bytes = sum(path.stat().st_size for path in study.iterdir())
        seconds = _by_turns(study, repeat, PARTS | (READERS if readers else {}))
    ratio = {kind: seconds["dicom-node explain"][kind] / seconds["dcm2niix"][kind] for kind in KINDS}
    return {
        "instances": instances,
        "megabytes": round(size_bytes / 1e6, 1),
        "made_of": made_of,
        "seconds": {part: {kind: round(taken[kind], 3) for kind in KINDS} for part, taken in seconds.items()},
        "ratio": {kind: round(ratio[kind], 2) for kind in KINDS},
    }


def _by_turns(study: Path, repeat: int, parts: dict[str, Callable[[Path], None]]) -> dict[str, dict[str, float]]:
    """Return the median seconds of every part, by kind."""
    taken: dict[str, list[tuple[float, float]]] = {part: [] for part in parts}
    for turn in range(repeat + 1):
        for part, run in parts.items():
            start = _clocks()
            run(study)
            if turn:
                taken[part].append((_clocks()[0] - start[0], _clocks()[1] - start[1]))
    return {
        part: dict(zip(KINDS, map(statistics.median, zip(*pairs, strict=True)), strict=True))
        for part, pairs in taken.items()
    }


def _clocks() -> tuple[float, float]:
    """Return the time of day and the processor time of ended children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), used.ru_utime + used.ru_stime


def lines(result: dict[str, Any]) -> Iterable[str]:
    """Yield the result for people."""
    yield f"{result['instances']} instances, {result['megabytes']} MB, made of {result['made_of']}"
    yield f"  {'':22}{'passed':>10}{'processor':>12}"
    for part, seconds in result["seconds"].items():
        yield f"  {part:22}{seconds['passed']:8.3f} s{seconds['processor']:10.3f} s"
    ratio = result["ratio"]
    yield f"explain takes {ratio['passed']:.2f} times as long as dcm2niix, {ratio['processor']:.2f} times the processor"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=5, help="runs of each program that count")
    parser.add_argument("--readers", action="store_true", help="compare the two readers of headers too")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.instances < LEAST_INSTANCES:
        parser.error(f"a study needs at least {LEAST_INSTANCES} instances")
    for tool in (DICOM_NODE, DCM2NIIX):
        if not tool.exists():
            raise SystemExit(f"{tool} is missing: pip install -e .[test]")
    result = measure(arguments.instances, arguments.repeat, readers=arguments.readers)
    print(json.dumps(result, indent=2) if arguments.json else "\n".join(lines(result)))


if __name__ == "__main__":
    main()
