"""One large file over HTTP into a folder, resumed where an earlier attempt broke off."""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from dicom_node.errors import NodeError
from models.whole_files import open_own, put_in_place, write_json

MAX_BYTES = 2 * 10**9
_TIMEOUT_S = 60
_CHUNK_BYTES = 2**17
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class DownloadError(NodeError):
    """A download that did not come to its end; the next attempt goes on from there."""

    code = "download_failed"


def download(url: str, file: Path, tell: Callable[[str], None]) -> Path:
    """Return `file` with the content of `url`.

    What arrived stays in ``FILE.part``. It is added to only if the server says that its file is still the same.

    Parameters
    ----------
    url
        ``https://`` or ``http://``.
    file
        Where to write; replaced.
    tell
        Called with the progress.

    Raises
    ------
    DownloadError
        ``download_failed`` (no connection, or a refusal), ``download_incomplete`` or ``download_too_large``.
    """
    if not url.startswith(("https://", "http://")):
        raise DownloadError(f"{url} is not a web address: it must begin with https:// or http://.")
    part, identity = file.with_name(file.name + ".part"), file.with_name(file.name + ".part.json")
    try:
        with _open(url, part, identity) as response:
            _receive(response, part, identity, url, tell)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise DownloadError(f"{url} cannot be downloaded ({reason}): try again, it goes on where it stopped.") from None
    put_in_place(part, file)
    identity.unlink(missing_ok=True)
    return file


def _open(url: str, part: Path, identity: Path) -> http.client.HTTPResponse:
    """Return the response to a request for what is missing, or for the whole file."""
    request = urllib.request.Request(url)  # noqa: S310 - the scheme was checked
    held_bytes = part.stat().st_size if part.exists() else 0
    known = json.loads(identity.read_text("utf-8")) if identity.exists() else {}
    if held_bytes and known.get("url") == url:
        request.add_header("Range", f"bytes={held_bytes}-")
        request.add_header("If-Range", known["validator"])
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not held_bytes:
            raise
        part.unlink()
        return _open(url, part, identity)
    return response


def _receive(
    response: http.client.HTTPResponse, part: Path, identity: Path, url: str, tell: Callable[[str], None]
) -> None:
    """Write the body behind what is there, or from the start if the server sends the whole file."""
    match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT and match and int(match[1]) == part.stat().st_size
    length = response.headers.get("Content-Length")
    total_bytes = int(match[2]) if resumed and match else int(length) if length else None
    if total_bytes is not None and total_bytes > MAX_BYTES:
        raise DownloadError(f"{url} has {total_bytes / 1e9:.0f} GB, more than any release.", "download_too_large")
    _remember(response, identity, url)
    flags = os.O_WRONLY | (os.O_APPEND if resumed else os.O_TRUNC)
    with os.fdopen(open_own(part, flags), "ab" if resumed else "wb") as target:
        while chunk := response.read(_CHUNK_BYTES):
            target.write(chunk)
            if target.tell() > MAX_BYTES:
                raise DownloadError(f"{url} is larger than any release.", "download_too_large")
            tell(f"{target.tell() / 1e6:.0f} of {total_bytes / 1e6:.0f} MB" if total_bytes else "downloading")
    if total_bytes is not None and part.stat().st_size != total_bytes:
        raise DownloadError(f"{url} broke off: try again, it goes on where it stopped.", "download_incomplete")


def _remember(response: http.client.HTTPResponse, identity: Path, url: str) -> None:
    """Keep what distinguishes this file from another one at the same address; without it nothing is resumed."""
    validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
    # RFC 9110 13.1.5: a weak validator cannot prove that bytes are the same.
    if validator and not validator.startswith("W/"):
        write_json(identity, {"url": url, "validator": validator})
    else:
        identity.unlink(missing_ok=True)
