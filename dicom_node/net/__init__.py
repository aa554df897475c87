"""Bytes on wires: DICOM associations both ways, storage commitment, downloads."""
