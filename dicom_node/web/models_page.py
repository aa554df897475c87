"""The models: what the bundle in use says of itself, on whom it was tried, and since when the workers read with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from time import time
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from dicom_node.watch.pulse import Loaded, pulses
from dicom_node.web.access import Visitor
from dicom_node.web.page import page, site_of
from models.bundle import CHECKSUMS, Bundle, ModelError, bundle_folder, open_bundle
from models.contrast import Contrast

router = APIRouter()
_CARD = "docs/README.md"


class InUse(NamedTuple):
    """What a worker reads with, whether it still does, and since when."""

    worker: str
    lives: bool
    loaded: Loaded
    since: datetime


@dataclass(frozen=True, slots=True)
class Shown:
    """A bundle and its model card; or why it must not be used."""

    bundle: Bundle | None
    card: str = ""
    refusal: str = ""
    code: str = ""


@router.get("/models")
def models(request: Request, _visit: Visitor) -> HTMLResponse:
    """Return the page of the models."""
    config = site_of(request).config
    used = list(_in_use(request))
    return page(
        request,
        "models.html",
        config=config,
        shown=_shown(config.model.bundle),
        used=used,
        digests={each.loaded.digest for each in used if each.lives},
        contrasts=tuple(Contrast),
    )


def _in_use(request: Request) -> list[InUse]:
    now_s = time()
    return [
        InUse(pulse.name, pulse.lives(now_s), pulse.loaded, datetime.fromtimestamp(pulse.loaded.since_s, UTC))
        for pulse in pulses(site_of(request).config.node.data_dir, now_s)
        if pulse.loaded
    ]


def _shown(name: str) -> Shown:
    """Return a bundle as it was verified since its list of digests was written."""
    try:
        return _verified(name, (bundle_folder(name) / CHECKSUMS).stat().st_mtime_ns)
    except ModelError as error:
        return Shown(None, refusal=str(error), code=error.code)
    except OSError:
        return Shown(None, refusal=f'The bundle "{name}" cannot be read.', code="bundle_missing")


@lru_cache(maxsize=4)
def _verified(name: str, _written_ns: int) -> Shown:
    bundle = open_bundle(name)
    return Shown(bundle, (bundle.folder / _CARD).read_text("utf-8", "replace"))
