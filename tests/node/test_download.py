"""A download goes on where it broke off, and never joins two different files."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dicom_node.cli.model import Installable, fetch_archive, release_url
from dicom_node.config import Config, load
from dicom_node.net import download as download_module
from dicom_node.net.download import DownloadError, download
from dicom_node.net.held_port import held_port
from models.brain_weights import open_brain_weights
from tests.support.hd_bet_models import write_model, write_release
from tests.support.services import command

CONTENT = bytes(range(256)) * 4000


@dataclass
class Served:
    """What a web server has, how much of it one connection carries, and what it was asked for."""

    content: bytes = CONTENT
    etag: str | None = '"one"'
    breaks_after: int | None = None
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)


@contextmanager
def server(served: Served) -> Iterator[str]:
    """Serve on loopback as web servers do: ranges under a condition, connections that break."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            served.asked.append(wanted)
            size, start = len(served.content), 0
            if wanted and served.ranges and self.headers.get("If-Range") in (None, served.etag):
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= size:
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            else:
                self.send_response(200)
            if served.etag:
                self.send_header("ETag", served.etag)
            self.send_header("Content-Length", str(size - start))
            self.end_headers()
            stop = size if served.breaks_after is None else min(size, start + served.breaks_after)
            self.wfile.write(served.content[start:stop])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/release.zip"
        running.shutdown()


def failed(url: str, file: Path) -> DownloadError:
    with pytest.raises(DownloadError) as caught:
        download(url, file, lambda _: None)
    assert str(caught.value).endswith(".")
    return caught.value


def test_a_file_arrives_whole_with_its_progress(tmp_path: Path):
    told: list[str] = []
    with server(Served()) as url:
        assert download(url, tmp_path / "file", told.append).read_bytes() == CONTENT
    assert told[-1] == "1 of 1 MB"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_broke_off_goes_on(tmp_path: Path):
    served = Served(breaks_after=700_000)
    with server(served) as url:
        assert failed(url, tmp_path / "file").code in ("download_failed", "download_incomplete")
        assert not (tmp_path / "file").exists()
        have = (tmp_path / "file.part").stat().st_size
        assert 0 < have <= 700_000
        assert download(url, tmp_path / "file", lambda _: None).read_bytes() == CONTENT
    assert served.asked == [None, f"bytes={have}-"]


def test_another_file_at_the_same_address_is_not_added(tmp_path: Path):
    served = Served(breaks_after=700_000)
    with server(served) as url:
        failed(url, tmp_path / "file")
        served.content, served.etag, served.breaks_after = CONTENT[::-1], '"two"', None
        assert download(url, tmp_path / "file", lambda _: None).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_a_file_that_cannot_be_recognised_starts_anew(tmp_path: Path, etag: str | None):
    served = Served(etag=etag, breaks_after=700_000)
    with server(served) as url:
        failed(url, tmp_path / "file")
        served.breaks_after = None
        assert download(url, tmp_path / "file", lambda _: None).read_bytes() == CONTENT
    assert served.asked == [None, None]


def test_a_server_without_ranges_starts_anew(tmp_path: Path):
    served = Served(breaks_after=700_000, ranges=False)
    with server(served) as url:
        failed(url, tmp_path / "file")
        served.breaks_after = None
        assert download(url, tmp_path / "file", lambda _: None).read_bytes() == CONTENT


def test_a_part_that_is_too_long_starts_anew(tmp_path: Path):
    served = Served()
    with server(served) as url:
        (tmp_path / "file.part").write_bytes(CONTENT + b"more")
        (tmp_path / "file.part.json").write_text(json.dumps({"url": url, "validator": served.etag}))
        assert download(url, tmp_path / "file", lambda _: None).read_bytes() == CONTENT
    assert len(served.asked) == 2


def test_more_than_a_release_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(download_module, "MAX_BYTES", 10**6)
    with server(Served()) as url:
        assert failed(url, tmp_path / "file").code == "download_too_large"


def test_no_connection_and_no_web_address_are_told(tmp_path: Path):
    with held_port() as port:
        assert failed(f"http://127.0.0.1:{port}/x", tmp_path / "file").code == "download_failed"
    assert failed("file:///etc/passwd", tmp_path / "file").code == "download_failed"


# --- the verb ---------------------------------------------------------------------------------------------------------


def test_fetch_installs_what_it_downloads(tmp_path: Path):
    config = tmp_path / "node.toml"
    config.write_text('[node]\ndata_dir = "data"\n[receive]\naccept = "any"\n[brain]\nweights = "hd-bet"\n')
    archive = write_release(write_model(tmp_path / "model"), tmp_path / "release.zip")
    with server(Served(archive.read_bytes())) as url:
        said = command("models", "fetch", "hd-bet", "--url", url, "--config", str(config))
    folder = load(config).node.data_dir / "hd-bet"
    assert open_brain_weights("hd-bet", folder).digest in said
    assert sorted(path.name for path in folder.parent.iterdir()) == ["changed", "collecting", "hd-bet", "spool"]
    assert folder.parent.stat().st_mode & 0o777 == 0o700


def test_fetch_without_a_network_explains_the_way_without(tmp_path: Path):
    config = Config.offline()
    config = config.model_copy(update={"node": config.node.model_copy(update={"data_dir": tmp_path / "data"})})
    with held_port() as port, pytest.raises(DownloadError) as caught:
        fetch_archive(Installable.HD_BET, f"http://127.0.0.1:{port}/release.zip", config, lambda _: None)
    assert caught.value.code == "download_failed"
    assert "`dicom-node models install hd-bet FILE`" in str(caught.value)


def test_the_address_is_that_of_hd_bet():
    assert release_url().startswith("https://zenodo.org/")
    assert "release_v1.5.0.zip" in release_url()
