"""A result at a FHIR server: posted as a transaction, and read back as proof.

What the Bundle holds is put under ids of its own: posting it again, as after an answer that was lost, makes no second
report. No address with an id and no answer of a server reaches a sentence.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dicom_node.config import FhirServer
from dicom_node.errors import DeliveryError, ObjectDenied, ObjectRefused, PeerAway, PeerError

TIMEOUT_S: Final = 30.0
_MAX_BYTES: Final = 2**24
_CHUNK_BYTES: Final = 2**16
_MEDIA_TYPE: Final = "application/fhir+json"
_BUSY: Final = frozenset({408, 425, 429, 502, 503, 504})
_CLOSED: Final = frozenset({401, 403})
_TAKEN: Final = frozenset({200, 201})
_GONE: Final = frozenset({404, 410})
_REFUSED: Final = 4
"""First digit of what is the caller's fault."""
_ABSENT: Final = "not_found"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered."""

    status: int
    content: bytes


def reach(server: FhirServer) -> str:
    """Return in words that a server answers with its capabilities.

    Parameters
    ----------
    server
        As configured.

    Raises
    ------
    PeerError
        If it does not.
    """
    answer = _call(server, "metadata")
    if answer.status in _GONE:
        raise _no_server(server)
    if answer.status not in _TAKEN:
        raise _failure(server, answer.status)
    return f"{server.url} answers"


def post(server: FhirServer, bundle: Path) -> None:
    """Have a server take a transaction.

    Parameters
    ----------
    server
        As configured.
    bundle
        File of a Bundle.

    Raises
    ------
    PeerAway
        If the server cannot be reached, is busy, or lets nobody in.
    PeerError
        If it fails, or refuses the Bundle itself; the latter is permanent.
    """
    answer = _call(server, "", bundle.read_bytes())
    if answer.status in _GONE:
        raise _no_server(server)
    if answer.status not in _TAKEN:
        raise _failure(server, answer.status)


def read_back(server: FhirServer, bundle: Path) -> None:
    """Have a server prove that it holds every resource of a transaction: some take the parts that they like.

    Parameters
    ----------
    server, bundle
        As for `post`.

    Raises
    ------
    ObjectDenied
        If it lacks one, or holds another under the same id.
    PeerError
        As for `post`.
    """
    for entry in json.loads(bundle.read_text("utf-8"))["entry"]:
        answer = _call(server, entry["request"]["url"])
        if answer.status in _GONE:
            raise ObjectDenied(f'"{server.name}" does not hold all of the report: look at its log.', _ABSENT)
        if answer.status not in _TAKEN:
            raise _failure(server, answer.status)
        if _identity(answer.content) != _identity(json.dumps(entry["resource"]).encode()):
            raise ObjectDenied(f'"{server.name}" holds another report than it took: look at its log.', _ABSENT)


def _identity(content: bytes) -> tuple[str, str, frozenset[tuple[str, str]]] | None:
    """Return type, id and identifiers of a resource; None of anything else."""
    try:
        resource: Any = json.loads(content)
        identifiers = frozenset((each["system"], each["value"]) for each in resource.get("identifier", ()))
        return resource["resourceType"], resource["id"], identifiers
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _no_server(server: FhirServer) -> PeerAway:
    return PeerAway(f'There is no FHIR server at the url of "{server.name}": correct it.', "fhir_unreachable")


def _failure(server: FhirServer, status: int) -> PeerError:
    if status in _CLOSED:
        return PeerAway(f'"{server.name}" lets nobody in ({status}): look at its token_file.', "fhir_denied")
    if status in _BUSY:
        return PeerAway(f'"{server.name}" takes nothing now ({status}): look at the server.', "fhir_unreachable")
    if status // 100 == _REFUSED:
        return ObjectRefused(f'"{server.name}" refuses the report ({status}): look at its log.', "fhir_refused")
    return DeliveryError(f'"{server.name}" fails at the report ({status}): look at its log.', "fhir_failed")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A report goes where it is configured to go, and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _call(server: FhirServer, path: str, content: bytes | None = None) -> Answer:
    headers = {"Accept": _MEDIA_TYPE} | ({} if content is None else {"Content-Type": _MEDIA_TYPE})
    try:
        token = server.token_file.read_text("utf-8").strip() if server.token_file else ""
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        address = f"{server.url.rstrip('/')}/{path}".rstrip("/")
        request = urllib.request.Request(address, content, headers)  # noqa: S310 - http or https by configuration
        context = ssl.create_default_context(cafile=server.ca_file)
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirect)
        with opener.open(request, timeout=TIMEOUT_S) as response:
            return Answer(response.status, _read(response))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, b"")
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        raise PeerAway(
            f'"{server.name}" cannot be reached ({type(cause).__name__}): look at its url, certificate and token_file, '
            "and at the network.",
            "fhir_unreachable",
        ) from None


def _read(response: http.client.HTTPResponse) -> bytes:
    """Return an answer, within bounds of time and size: a server may send a byte now and then."""
    content, until_s = bytearray(), time.monotonic() + TIMEOUT_S
    while chunk := response.read1(_CHUNK_BYTES):
        content += chunk
        if len(content) > _MAX_BYTES or time.monotonic() > until_s:
            raise TimeoutError
    return bytes(content)
