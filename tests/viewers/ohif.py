"""The OHIF viewer as a hospital serves it: its files and the PACS's DICOMweb under one origin."""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

VIEWERS = Path(os.environ.get("DICOM_NODE_VIEWERS", Path(__file__).parents[2] / ".venv" / "viewers"))
OHIF = VIEWERS / "ohif-3.13.2"

_PASSED_ON = ("Accept", "Content-Type", "Host")


@dataclass(frozen=True)
class Viewer:
    """OHIF on a loopback port, in front of an Orthanc."""

    port: int

    @classmethod
    @contextmanager
    def running(cls, orthanc_port: int) -> Iterator[Self]:
        """Yield a viewer that is served as long as the block runs."""
        with _Server(("127.0.0.1", 0), partial(_Site, orthanc_port, directory=str(OHIF))) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield cls(server.server_port)
            server.shutdown()

    def url(self, study_uid: str, series_uid: str | None = None) -> str:
        """Return the address of a study in the viewer, or of one of its series alone."""
        series = f"&SeriesInstanceUIDs={series_uid}" if series_uid else ""
        return f"http://127.0.0.1:{self.port}/viewer?StudyInstanceUIDs={study_uid}{series}"


class _Server(ThreadingHTTPServer):
    """Takes as many connections as a browser opens at once."""

    request_queue_size = 128
    daemon_threads = True


class _Site(SimpleHTTPRequestHandler):
    """Serves the viewer's files, its configuration, and the PACS behind ``/dicom-web``."""

    protocol_version = "HTTP/1.1"

    def __init__(self, orthanc_port: int, *arguments: Any, **keywords: Any) -> None:
        self._orthanc_port = orthanc_port
        super().__init__(*arguments, **keywords)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/dicom-web"):
            self._ask_pacs()
        elif path == "/app-config.js":
            self._answer(200, "text/javascript", _configuration(self.headers["Host"]).encode())
        else:
            if not Path(self.translate_path(path)).is_file():
                self.path = "/index.html"
            super().do_GET()

    def log_message(self, *arguments: object) -> None:
        """Requests name studies: keep them out of the test's output."""

    def _ask_pacs(self) -> None:
        pacs = http.client.HTTPConnection("127.0.0.1", self._orthanc_port, timeout=60)
        headers = {name: self.headers[name] for name in _PASSED_ON if name in self.headers}
        pacs.request("GET", self.path, headers=headers)
        answer = pacs.getresponse()
        self._answer(answer.status, answer.getheader("Content-Type", ""), answer.read())
        pacs.close()

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _configuration(host: str) -> str:
    root = f"http://{host}/dicom-web"
    source = {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": "pacs",
        "configuration": {
            "friendlyName": "pacs",
            "name": "pacs",
            "wadoUriRoot": root,
            "qidoRoot": root,
            "wadoRoot": root,
            "qidoSupportsIncludeField": False,
            "imageRendering": "wadors",
            "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True,
            "omitQuotationForMultipartRequest": True,
            "bulkDataURI": {"enabled": True},
        },
    }
    # Drawn with WebGL, as in a reading room: the viewer's own fallback loses the page when its camera moves before an
    # image has come.
    settings = {
        "routerBasename": "/",
        "extensions": [],
        "modes": [],
        "showStudyList": True,
        "maxNumberOfWebWorkers": 2,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": False,
        "showLoadingIndicator": True,
        "useCPURendering": False,
        "investigationalUseDialog": {"option": "never"},
        "dataSources": [source],
        "defaultDataSourceName": "pacs",
    }
    # The tour for newcomers lies over the page and takes the first click.
    tours = json.dumps(["basicViewerTour"])
    return f"localStorage.setItem('shownTours', {json.dumps(tours)}); window.config = {json.dumps(settings)};"
