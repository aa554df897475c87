"""A held port is given to nobody, and a server may listen on it all the same."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.net.held_port import held_port
from tests.support.services import listens

MANY = 500


def test_a_held_port_refuses_connections_and_strangers():
    with held_port() as port, socket.socket() as stranger:
        assert not listens(port)
        with pytest.raises(OSError, match=r".") as caught:
            stranger.bind(("127.0.0.1", port))
    assert caught.value.errno == errno.EADDRINUSE


def test_no_port_is_held_twice():
    with ExitStack() as held:
        ports = [held.enter_context(held_port()) for _ in range(MANY)]
    assert len(set(ports)) == MANY


def test_web_and_dicom_servers_listen_on_it_one_after_the_other():
    with held_port() as port:
        with HTTPServer(("127.0.0.1", port), BaseHTTPRequestHandler):
            assert listens(port)
        assert not listens(port)
        entity = AE("PACS")
        entity.add_supported_context(Verification)
        server = entity.start_server(("127.0.0.1", port), block=False)
        assert listens(port)
        server.shutdown()
