"""The configuration: frozen sections, the words of their keys, and the file that they are read from."""

from dicom_node.config.file import example_toml, load, parse
from dicom_node.config.sections import (
    Brain,
    Config,
    Delivery,
    Model,
    Node,
    Peer,
    PeerRole,
    Receive,
    Report,
    Selection,
    Web,
)

__all__ = [
    "Brain",
    "Config",
    "Delivery",
    "Model",
    "Node",
    "Peer",
    "PeerRole",
    "Receive",
    "Report",
    "Selection",
    "Web",
    "example_toml",
    "load",
    "parse",
]
