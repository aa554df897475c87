"""The configuration: frozen sections, the words of their keys, and the file that they are read from."""

from dicom_node.config.alarms_section import AlarmsSection
from dicom_node.config.audit_section import AuditSection
from dicom_node.config.fhir_section import FhirServer
from dicom_node.config.file import example_toml, load, parse, with_first_password
from dicom_node.config.hl7_section import Hl7Receiver
from dicom_node.config.routing_section import Missing, RoutingSection
from dicom_node.config.sections import (
    BrainSection,
    Config,
    DeliverySection,
    ModelSection,
    NodeSection,
    Peer,
    PeerRole,
    Receiver,
    ReceiveSection,
    ReportSection,
    RetentionSection,
)
from dicom_node.config.selection_section import SelectionSection
from dicom_node.config.tls_section import ClientCertificates, TLSProfile, TLSSection
from dicom_node.config.web_section import WebSection, WithoutSignIn

__all__ = [
    "AlarmsSection",
    "AuditSection",
    "BrainSection",
    "ClientCertificates",
    "Config",
    "DeliverySection",
    "FhirServer",
    "Hl7Receiver",
    "Missing",
    "ModelSection",
    "NodeSection",
    "Peer",
    "PeerRole",
    "ReceiveSection",
    "Receiver",
    "ReportSection",
    "RetentionSection",
    "RoutingSection",
    "SelectionSection",
    "TLSProfile",
    "TLSSection",
    "WebSection",
    "WithoutSignIn",
    "example_toml",
    "load",
    "parse",
    "with_first_password",
]
