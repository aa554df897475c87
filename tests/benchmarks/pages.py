"""How fast the web pages answer with a past of 100,000 studies: ``python -m tests.benchmarks.pages [--studies N]``.

The pages run as a hospital runs them, in a process of their own. Each page is asked for by one reader, then by twenty
at once; printed are the median and the 99th of a hundred, in milliseconds as the reader sees them.
"""

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dicom_node.log import Pseudonym, read_key
from dicom_node.studies.index import Index
from dicom_node.studies.spool import Spool
from tests.support.pasts import past_uid, write_past
from tests.support.sites import Site, site

READERS = 20
TIMES = 100


def places(data_dir: Path, studies: int) -> dict[str, str]:
    """Return the pages by name."""
    name = Pseudonym(read_key(data_dir))(past_uid(studies // 2))
    return {
        "the list": "/studies",
        "by state": "/studies?sort=state",
        "held, by reason": "/studies?state=held&sort=reason",
        "of one sender": "/studies?peer=MR_1",
        "a name": f"/studies?text={name}",
        "part of a UID": "/studies?text=1407.77",
        "a word": "/studies?text=missing",
        "a study": f"/studies/{name}",
        "peers": "/peers",
    }


def asked(pages: Site, place: str) -> float:
    """Return the milliseconds of an answer."""
    began_s = time.monotonic()
    answer = pages.get(place)
    assert answer.status == 200, answer.body
    return 1000 * (time.monotonic() - began_s)


def measure(pages: Site, place: str, readers: int, times: int) -> tuple[float, float]:
    """Return the median and the 99th of a hundred."""
    with ThreadPoolExecutor(readers) as pool:
        took = sorted(pool.map(lambda _: asked(pages, place), range(times)))
    return statistics.median(took), took[min(len(took) - 1, round(0.99 * len(took)))]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=TIMES)
    parser.add_argument("--past", type=Path, help="folder for the past, which stays there and is used again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.past or Path(temporary)
        if not (folder / "data").exists():
            write_past(folder / "data", options.studies)
        Index(folder / "data").catch_up(Spool(folder / "data"))
        with site(folder) as pages:
            for name, place in places(folder / "data", options.studies).items():
                asked(pages, place)
                for readers in (1, READERS):
                    median, slowest = measure(pages, place, readers, options.times)
                    print(
                        f"{options.studies:8} studies   {name:18} {readers:3} readers"
                        f"   median {median:7.1f} ms   p99 {slowest:7.1f} ms"
                    )


if __name__ == "__main__":
    main()
