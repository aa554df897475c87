"""Why a connection over TLS came to nothing, as a type; the words for it stand in `tls_sentences`."""

from __future__ import annotations

import ssl
from enum import StrEnum

_HANDSHAKE = 0x16


class TLSFault(StrEnum):
    """Why a connection over TLS came to nothing."""

    NOT_SPOKEN = "tls_not_spoken"
    NEEDED = "tls_needed"
    VERSION = "tls_version"
    NO_CIPHER = "tls_no_cipher"
    NO_CERTIFICATE = "tls_no_certificate"
    EXPIRED = "tls_expired"
    NOT_YET_VALID = "tls_not_yet_valid"
    UNTRUSTED = "tls_untrusted"
    SELF_SIGNED = "tls_self_signed"
    WEAK = "tls_weak"
    PURPOSE = "tls_purpose"
    INVALID = "tls_invalid"
    WRONG_NAME = "tls_wrong_name"
    OURS_REFUSED = "tls_ours_refused"
    NO_ANSWER = "tls_no_answer"
    BROKEN_OFF = "tls_broken_off"


# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_BY_VERIFICATION = {
    9: TLSFault.NOT_YET_VALID,
    10: TLSFault.EXPIRED,
    18: TLSFault.SELF_SIGNED,
    **dict.fromkeys((2, 19, 20, 21, 27, 28), TLSFault.UNTRUSTED),
    26: TLSFault.PURPOSE,
    **dict.fromkeys((66, 67, 68), TLSFault.WEAK),
}
# Ends of the names that OpenSSL gives to its reasons and to the alerts of the other side.
_BY_REASON = {
    "WRONG_VERSION_NUMBER": TLSFault.NOT_SPOKEN,
    "PACKET_LENGTH_TOO_LONG": TLSFault.NOT_SPOKEN,
    "RECORD_LAYER_FAILURE": TLSFault.NOT_SPOKEN,
    "HTTP_REQUEST": TLSFault.NOT_SPOKEN,
    "UNSUPPORTED_PROTOCOL": TLSFault.VERSION,
    "VERSION_TOO_LOW": TLSFault.VERSION,
    "ALERT_PROTOCOL_VERSION": TLSFault.VERSION,
    "NO_SHARED_CIPHER": TLSFault.NO_CIPHER,
    "NO_SHARED_GROUP": TLSFault.NO_CIPHER,
    "NO_SUITABLE_KEY_SHARE": TLSFault.NO_CIPHER,
    "NO_SHARED_SIGNATURE_ALGORITHMS": TLSFault.NO_CIPHER,
    "NO_SUITABLE_SIGNATURE_ALGORITHM": TLSFault.NO_CIPHER,
    "ALERT_HANDSHAKE_FAILURE": TLSFault.NO_CIPHER,
    "ALERT_INSUFFICIENT_SECURITY": TLSFault.NO_CIPHER,
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": TLSFault.NO_CERTIFICATE,
    "ALERT_CERTIFICATE_REQUIRED": TLSFault.NO_CERTIFICATE,
    "ALERT_UNKNOWN_CA": TLSFault.OURS_REFUSED,
    "ALERT_BAD_CERTIFICATE": TLSFault.OURS_REFUSED,
    "ALERT_UNSUPPORTED_CERTIFICATE": TLSFault.OURS_REFUSED,
    "ALERT_CERTIFICATE_EXPIRED": TLSFault.OURS_REFUSED,
    "ALERT_CERTIFICATE_REVOKED": TLSFault.OURS_REFUSED,
    "ALERT_CERTIFICATE_UNKNOWN": TLSFault.OURS_REFUSED,
    "ALERT_ACCESS_DENIED": TLSFault.OURS_REFUSED,
    "ALERT_DECRYPT_ERROR": TLSFault.OURS_REFUSED,
    "EE_KEY_TOO_SMALL": TLSFault.WEAK,
    "CA_MD_TOO_WEAK": TLSFault.WEAK,
}


class WrongName(ssl.SSLError):
    """The certificate is verified, and belongs to somebody else."""


def fault_of(error: OSError) -> TLSFault:
    """Return why a handshake failed."""
    if isinstance(error, WrongName):
        return TLSFault.WRONG_NAME
    if isinstance(error, ssl.SSLCertVerificationError):
        return _BY_VERIFICATION.get(error.verify_code, TLSFault.INVALID)
    if isinstance(error, TimeoutError):
        return TLSFault.NO_ANSWER
    reason = getattr(error, "reason", None) or ""
    return next((fault for end, fault in _BY_REASON.items() if reason.endswith(end)), TLSFault.BROKEN_OFF)


def begins_tls(first: bytes | bytearray) -> bool:
    """Return whether a connection that begins so is one of TLS; DICOM begins with the type of a PDU, below 8."""
    return first[:1] == bytes([_HANDSHAKE])
