"""The attributes that are read of a header, and their values as plain numbers and texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.dicom_file import PixelElement
from pipeline.headers.texts import Text, read_plain_text
from pipeline.headers.unknown import is_unknown

Value = tuple[float, ...] | tuple[str, ...]
"""Every value is a tuple; an attribute that is absent, empty or unreadable is not there."""
Values = Mapping[str, Value]

WANTED: dict[str, tuple[int, str]] = {
    "SpecificCharacterSet": (0x00080005, "CS"),
    "ImageType": (0x00080008, "CS"),
    "SOPClassUID": (0x00080016, "UI"),
    "SOPInstanceUID": (0x00080018, "UI"),
    "StudyDate": (0x00080020, "DA"),
    "SeriesDate": (0x00080021, "DA"),
    "AcquisitionDate": (0x00080022, "DA"),
    "AcquisitionDateTime": (0x0008002A, "DT"),
    "StudyTime": (0x00080030, "TM"),
    "SeriesTime": (0x00080031, "TM"),
    "AcquisitionTime": (0x00080032, "TM"),
    "Modality": (0x00080060, "CS"),
    "Manufacturer": (0x00080070, "LO"),
    "SeriesDescription": (0x0008103E, "LO"),
    "FrameType": (0x00089007, "CS"),
    "ComplexImageComponent": (0x00089208, "CS"),
    "ContrastBolusAgent": (0x00180010, "LO"),
    "BodyPartExamined": (0x00180015, "CS"),
    "ScanningSequence": (0x00180020, "CS"),
    "SequenceVariant": (0x00180021, "CS"),
    "ScanOptions": (0x00180022, "CS"),
    "MRAcquisitionType": (0x00180023, "CS"),
    "SequenceName": (0x00180024, "SH"),
    "RepetitionTime": (0x00180080, "DS"),
    "EchoTime": (0x00180081, "DS"),
    "InversionTime": (0x00180082, "DS"),
    "EchoNumbers": (0x00180086, "IS"),
    "MagneticFieldStrength": (0x00180087, "DS"),
    "ProtocolName": (0x00181030, "LO"),
    "ContrastBolusVolume": (0x00181041, "DS"),
    "ContrastBolusTotalDose": (0x00181044, "DS"),
    "ContrastBolusIngredient": (0x00181048, "CS"),
    "TriggerTime": (0x00181060, "DS"),
    "FlipAngle": (0x00181314, "DS"),
    "PulseSequenceName": (0x00189005, "SH"),
    "EchoPulseSequence": (0x00189008, "CS"),
    "InversionRecovery": (0x00189009, "CS"),
    "EchoPlanarPulseSequence": (0x00189018, "CS"),
    "FrameAcquisitionDateTime": (0x00189074, "DT"),
    "InversionTimes": (0x00189079, "FD"),
    "EffectiveEchoTime": (0x00189082, "FD"),
    "DiffusionBValue": (0x00189087, "FD"),
    "ContrastBolusAgentAdministered": (0x00189342, "CS"),
    "StudyInstanceUID": (0x0020000D, "UI"),
    "SeriesInstanceUID": (0x0020000E, "UI"),
    "SeriesNumber": (0x00200011, "IS"),
    "AcquisitionNumber": (0x00200012, "IS"),
    "ImagePositionPatient": (0x00200032, "DS"),
    "ImageOrientationPatient": (0x00200037, "DS"),
    "TemporalPositionIdentifier": (0x00200100, "IS"),
    "StackID": (0x00209056, "SH"),
    "TemporalPositionIndex": (0x00209128, "UL"),
    "NominalCardiacTriggerDelayTime": (0x00209153, "FD"),
    "FrameAcquisitionNumber": (0x00209156, "US"),
    "SamplesPerPixel": (0x00280002, "US"),
    "NumberOfFrames": (0x00280008, "IS"),
    "Rows": (0x00280010, "US"),
    "Columns": (0x00280011, "US"),
    "PixelSpacing": (0x00280030, "DS"),
    "BitsAllocated": (0x00280100, "US"),
}
"""Tag and value representation by keyword (PS3.6)."""

DESCRIPTIONS = frozenset({"SeriesDescription", "ProtocolName", "ContrastBolusAgent"})
"""Typed by people in the alphabet of their country."""

IDENTITY: dict[str, int] = {
    "SpecificCharacterSet": 0x00080005,
    "AccessionNumber": 0x00080050,
    "PatientName": 0x00100010,
    "PatientID": 0x00100020,
    "IssuerOfPatientID": 0x00100021,
    "PatientBirthDate": 0x00100030,
    "PatientSex": 0x00100040,
}
"""Tag by keyword of what says whose images they are, kept as bytes: what they mean depends on the character set."""
ISSUER_QUALIFIERS = 0x00100024
"""Issuer of Patient ID Qualifiers Sequence, whose UniversalEntityID belongs to them too."""
Readings = frozenset[str]
"""Every text that some bytes may stand for."""

NUMERIC = frozenset({"DS", "IS", "US", "SS", "UL", "SL", "FL", "FD"})


@dataclass(frozen=True, slots=True)
class Header:
    """What one file says before its pixels.

    Attributes
    ----------
    values
        Of the data set.
    shared, frames
        Of the functional groups: for all frames, and one by one; empty in classic objects (PS3.3 C.7.6.16).
    transfer_syntax
        UID; empty where the file does not say.
    pixels
        Pixel data as far as they are in the file.
    texts
        Of the descriptions that may say something else than their value, or cannot be read.
    identity
        Bytes of `IDENTITY`, without padding; what is empty is not there.
    """

    values: Values
    shared: Values
    frames: tuple[Values, ...]
    transfer_syntax: str
    pixels: PixelElement
    texts: Mapping[str, Text] = field(default_factory=dict)
    identity: Mapping[str, bytes] = field(default_factory=dict)


def as_numbers(parts: list[object]) -> tuple[float, ...] | None:
    """Return the values of an attribute as numbers.

    Parameters
    ----------
    parts
        Numbers, or texts that say numbers in decimal (DS, IS; PS3.5 6.2).

    Returns
    -------
    tuple of float or None
        None where there are none, or one is not a finite number.
    """
    try:
        numbers = tuple(float(part) for part in parts)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if numbers and all(map(math.isfinite, numbers)) else None


def as_texts(parts: list[object]) -> tuple[str, ...] | None:
    """Return the values of an attribute as texts without outer blanks.

    Parameters
    ----------
    parts
        Of any type; None stands for an empty value.

    Returns
    -------
    tuple of str or None
        None where there are none or all are empty.
    """
    texts = tuple("" if part is None else str(part).strip() for part in parts)
    return texts if any(texts) else None


class Facts:
    """The attributes of one frame: its own functional groups, then the shared ones, then the data set."""

    __slots__ = ("texts", "values")

    def __init__(self, values: Values, texts: Mapping[str, Text] | None = None) -> None:
        self.values = values
        self.texts = texts or {}

    def number(self, *keywords: str) -> float | None:
        """Return the first number of the first attribute that is there.

        Parameters
        ----------
        keywords
            Of attributes, in the order of preference.

        Returns
        -------
        float or None
            None where none of them is there, or the first that is holds text.
        """
        value = self._first(keywords)
        return value[0] if value and isinstance(value[0], float) else None

    def positive(self, *keywords: str) -> float | None:
        """Return the first number above zero: of times, spacings and doses zero is what programs write for none.

        Parameters
        ----------
        keywords
            Of attributes, in the order of preference.

        Returns
        -------
        float or None
            None where none of them holds one.
        """
        values = (value for keyword in keywords for value in self.values.get(keyword, ()))
        return next((value for value in values if isinstance(value, float) and value > 0), None)

    def vector(self, keyword: str, length: int) -> tuple[float, ...] | None:
        """Return the numbers of an attribute that holds several.

        Parameters
        ----------
        keyword
            Of the attribute.
        length
            How many it must hold.

        Returns
        -------
        tuple of float or None
            None where it is absent or holds more, fewer or other values.
        """
        value = self.values.get(keyword, ())
        numbers = tuple(part for part in value if isinstance(part, float))
        return numbers if len(numbers) == len(value) == length else None

    def text(self, *keywords: str) -> str:
        """Return the first attribute that is there as one text; one that stands for no value is not there.

        Parameters
        ----------
        keywords
            Of attributes, in the order of preference.

        Returns
        -------
        str
            Several values are joined by backslashes as in the file (PS3.5 6.4); empty where no attribute is there.
        """
        texts = ("\\".join(map(str, self.values.get(keyword, ()))) for keyword in keywords)
        return next((text for text in texts if text and not is_unknown(text)), "")

    def readings(self, keyword: str) -> tuple[str, ...]:
        """Return everything that the bytes of a description may say.

        Parameters
        ----------
        keyword
            Of `DESCRIPTIONS`.

        Returns
        -------
        tuple of str
            The likeliest first; an empty text alone where the attribute is absent, none where it cannot be read.
        """
        if keyword in self.texts:
            return self.texts[keyword].readings
        plain = read_plain_text("\\".join(map(str, self.values.get(keyword, ()))))
        return (self.text(keyword),) if plain.readings else ()

    def terms(self, *keywords: str) -> tuple[str, ...]:
        """Return the values of the first attribute that is there as terms.

        Parameters
        ----------
        keywords
            Of attributes, in the order of preference.

        Returns
        -------
        tuple of str
            In upper case, without empty values and those that stand for none; empty where no attribute is there.
            ``NONE`` stays: of several terms it says that something was not done.
        """
        terms = (str(part).upper() for part in self._first(keywords) or () if part)
        return tuple(term for term in terms if term == "NONE" or not is_unknown(term))

    def _first(self, keywords: tuple[str, ...]) -> Value | None:
        for keyword in keywords:
            if keyword in self.values:
                return self.values[keyword]
        return None
