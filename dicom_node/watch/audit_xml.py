"""An audit message in the XML of DICOM PS3.15 A.5.1, in the syslog frame of RFC 5424 and RFC 5425."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final
from xml.etree import ElementTree

_PRIORITY: Final = 10 * 8 + 5
"""Facility security, severity notice (RFC 5424 6.2.1)."""
_MESSAGE_ID: Final = "DICOM+RFC3881"
_DETAIL: Final = "ParticipantObjectDetail"


def as_xml(message: Mapping[str, Any]) -> bytes:
    """Return a message as XML in UTF-8.

    Parameters
    ----------
    message
        As a line of the trail says it.
    """
    root = ElementTree.Element("AuditMessage")
    for name, content in message.items():
        for each in content if isinstance(content, list) else [content]:
            _add(root, name, each)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def as_frame(message: Mapping[str, Any], host: str) -> bytes:
    """Return a message as syslog over TLS carries it: its length, its header, its XML.

    Parameters
    ----------
    message
        As a line of the trail says it.
    host
        Of this node.
    """
    time = message["EventIdentification"]["EventDateTime"]
    header = f"<{_PRIORITY}>1 {time} {host} dicom-node - {_MESSAGE_ID} - "
    content = header.encode("ascii", "replace") + b"\xef\xbb\xbf" + as_xml(message)
    return f"{len(content)} ".encode() + content


def _add(parent: ElementTree.Element, name: str, content: Mapping[str, Any]) -> None:
    """Add an element: what is a text is an attribute of it, all else lies in it."""
    element = ElementTree.SubElement(parent, name)
    for key, value in content.items():
        if isinstance(value, list | dict):
            for each in value if isinstance(value, list) else [value]:
                _add(element, key, each)
        elif name == _DETAIL and key == "value":
            element.set(key, base64.b64encode(str(value).encode()).decode())
        else:
            element.set(key, _legal(str(value).lower() if isinstance(value, bool) else str(value)))


def _legal(text: str) -> str:
    """Return a text without what XML 1.0 cannot say."""
    return "".join(each if each.isprintable() or each == " " else "?" for each in text)
