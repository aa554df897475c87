"""The process of the web pages: it listens, serves until a signal, and ends within seconds whatever is still open."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Final

import uvicorn

from dicom_node.config import Config
from dicom_node.engine.ending import end_now, until_signal
from dicom_node.engine.taking_over import taking_over
from dicom_node.errors import ConfigError
from dicom_node.web.application import make_app
from dicom_node.web.site import Site

_LOOK_S: Final = 0.5
_END_S: Final = 2
_MOST_AT_ONCE: Final = 200
_NICENESS: Final = 5
"""The pages yield to the receiver and the worker."""


def serve_pages(config: Config, config_file: Path) -> None:
    """Serve the web pages until a signal.

    Parameters
    ----------
    config, config_file
        Of the node.

    Raises
    ------
    ConfigError
        If the port cannot be opened (``port_unavailable``).
    """
    listening = _listening(config)
    os.nice(_NICENESS)
    site = Site.of(config, config_file)
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(site),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_AT_ONCE,
            timeout_graceful_shutdown=_END_S,
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="pages", daemon=True)
    with until_signal() as stop:
        thread.start()
        site.say_listening()
        with taking_over(config_file, config, site.take):
            while thread.is_alive() and not stop.wait(_LOOK_S):
                pass
        site.stop.set()
        server.should_exit = True
        thread.join(_END_S + 1)
    end_now()


def _listening(config: Config) -> socket.socket:
    bind, port = config.web.bind, config.web.port
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    try:
        return socket.create_server((bind, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"Port {port} on {bind} cannot be opened ({error.strerror}): change web.port or web.bind.",
            "port_unavailable",
        ) from None
