"""Instances per second of this node, Debian's storescp and Orthanc, from Debian's unmodified storescu.

Run with ``python -m tests.benchmarks.receive [--instances N] [--json]``. Every receiver gets the same files over one
association on loopback, first with the tools as they come, then with TCP_NODELAY=1 in the environment of sender and
receivers, which turns Nagle's algorithm off in DCMTK and Orthanc. The node fsyncs file and folder before it answers;
the other two do not.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from dicom_node.net.held_port import held_port
from tests.support.services import ORTHANC, STORESCU, started

STORESCP = Path("/usr/bin/storescp")
AE_TITLE = "TSCNODE"


def make_instances(folder: Path, count: int) -> int:
    """Write `count` MR instances of 256 x 256 pixels and return their size in bytes."""
    rng = np.random.default_rng(0)
    study, series = generate_uid(), generate_uid()
    for number in range(count):
        instance = Dataset()
        instance.file_meta = FileMetaDataset()
        instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        instance.SOPClassUID = MRImageStorage
        instance.SOPInstanceUID = generate_uid()
        instance.file_meta.MediaStorageSOPClassUID = instance.SOPClassUID
        instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
        instance.Modality = "MR"
        instance.PatientName = "BENCHMARK"
        instance.PatientID = "BENCHMARK"
        instance.StudyInstanceUID, instance.SeriesInstanceUID = study, series
        instance.InstanceNumber = number + 1
        instance.Rows = instance.Columns = 256
        instance.SamplesPerPixel, instance.PhotometricInterpretation = 1, "MONOCHROME2"
        instance.BitsAllocated, instance.BitsStored, instance.HighBit = 16, 12, 11
        instance.PixelRepresentation = 0
        instance.PixelData = rng.integers(0, 4096, (256, 256), dtype=np.uint16).tobytes()
        instance.save_as(folder / f"{number:05}.dcm", enforce_file_format=True)
    return sum(path.stat().st_size for path in folder.iterdir())


def node_command(folder: Path, port: int) -> list[str]:
    """Return the command of the node's receiver, as a hospital runs it."""
    settings = f'[node]\nae_title = "{AE_TITLE}"\nbind = "127.0.0.1"\nport = {port}\ndata_dir = "data"\n'
    path = folder / "node.toml"
    path.write_text(settings + '[receive]\naccept = "any"\ndisk_reserve_gb = 0.1\n')
    return [sys.executable, "-P", "-m", "dicom_node", "receive", "--config", str(path)]


def storescp_command(folder: Path, port: int) -> list[str]:
    """Return the command of Debian's storescp, which writes to `folder`."""
    return [str(STORESCP), "--aetitle", AE_TITLE, "--output-directory", str(folder), str(port)]


def orthanc_command(folder: Path, port: int) -> list[str]:
    """Return the command of an Orthanc that takes everything and keeps it in `folder`."""
    settings = {
        "Name": "benchmark",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "HttpServerEnabled": False,
        "DicomAet": AE_TITLE,
        "DicomPort": port,
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": False,
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(settings))
    return [str(ORTHANC), str(path)]


RECEIVERS = {"dicom-node": node_command, "storescp": storescp_command, "Orthanc": orthanc_command}


def measure(name: str, instances: Path, *, nodelay: bool) -> float:
    """Return the seconds storescu takes to send the folder to a fresh receiver."""
    environment = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
    if nodelay:
        environment["TCP_NODELAY"] = "1"
    with tempfile.TemporaryDirectory() as temporary, held_port() as port:
        folder = Path(temporary)
        send = [str(STORESCU), "-aec", AE_TITLE, "127.0.0.1", str(port), "--scan-directories", str(instances)]
        with started(RECEIVERS[name](folder, port), folder / "log", port, environment=environment):
            start_s = time.monotonic()
            subprocess.run(send, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return time.monotonic() - start_s


def compare(count: int) -> list[dict[str, Any]]:
    """Measure all receivers both ways."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        size_bytes = make_instances(Path(folder), count)
        for nodelay in (False, True):
            node_s = 0.0
            for name in RECEIVERS:
                seconds = measure(name, Path(folder), nodelay=nodelay)
                node_s = node_s or seconds
                rows.append(
                    {
                        "receiver": name,
                        "tcp_nodelay": nodelay,
                        "instances": count,
                        "seconds": round(seconds, 3),
                        "instances_per_s": round(count / seconds, 1),
                        "mb_per_s": round(size_bytes / seconds / 1e6, 1),
                        "node_is_faster_by": round(seconds / node_s, 2),
                    }
                )
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print the rows for people."""
    print(f"{'receiver':12} {'sender':22} {'instances/s':>12} {'MB/s':>8} {'node faster by':>15}")
    for row in rows:
        sender = "storescu TCP_NODELAY=1" if row["tcp_nodelay"] else "storescu as it comes"
        figures = f"{row['instances_per_s']:12} {row['mb_per_s']:8} {row['node_is_faster_by']:14}x"
        print(f"{row['receiver']:12} {sender:22} {figures}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    missing = [str(tool) for tool in (STORESCU, STORESCP, ORTHANC) if not tool.exists()]
    if missing:
        raise SystemExit(f"install the Debian packages dcmtk and orthanc: {', '.join(missing)} is missing")
    rows = compare(arguments.instances)
    print(json.dumps(rows, indent=2)) if arguments.json else print_table(rows)


if __name__ == "__main__":
    main()
