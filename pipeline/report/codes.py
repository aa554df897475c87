"""Codes of the report: the private scheme as one table, and the standard codes that it uses."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

SCHEME: Final = "99TSCWAE"
SCHEME_VERSION: Final = "1"
SCHEME_NAME: Final = "Scores of the weighted average ensemble in tuberous sclerosis complex"


@dataclass(frozen=True, slots=True)
class Term:
    """One row of the private scheme.

    Attributes
    ----------
    value
        Code Value, at most 16 characters; a value is never used again for another meaning.
    meaning
        Code Meaning, at most 64 characters.
    note
        What the conformance statement says of it.
    """

    value: str
    meaning: str
    note: str


# TSC014 to TSC016 are kept for the headings of a text-only layout.
TERMS: Final = (
    Term("TSC000", "AI Analysis Summary - AED-refractory score in TSC", "Document title, extends CID 7021."),
    Term("TSC001", "AED-refractory score (ensemble)", "Weighted sum of the single-sequence scores, 0 to 1."),
    Term("TSC002", "AED-refractory score (single sequence)", "Output of one sequence's network, 0 to 1."),
    Term("TSC003", "Ensemble weight", "Share of one sequence in the ensemble; the weights sum to 100 %."),
    Term("TSC004", "Decision threshold", "On the ensemble score."),
    Term("TSC005", "Model output category", "Side of the decision threshold: TSC006 or TSC007."),
    Term("TSC006", "At or above decision threshold", "Value of TSC005."),
    Term("TSC007", "Below decision threshold", "Value of TSC005."),
    Term("TSC008", "Weighted average of single-sequence scores", "Derivation of TSC001."),
    Term("TSC009", "MR image weighting", "Which sequence a measurement group describes."),
    Term("TSC010", "Intended use statement", "For whom the output is meant, and for whom not."),
    Term("TSC011", "Input series", "Which series took which role, and why."),
    Term("TSC012", "Model weights digest", "SHA-256 over the files of the model."),
    Term("TSC013", "T2 FLAIR MR Signal Intensity", "Value of TSC009; CID 218 has none."),
    Term("TSC017", "Condition addressed by score", "What the score is about; never a finding in the patient."),
    Term("TSC018", "Seizures uncontrolled at 1 year under anti-seizure medication", "Value of TSC017."),
    Term("TSC019", "Patent score CN114170162A, range 0 to 1/3", "A third of TSC001: the patent's literal value."),
    Term("TSC020", "Definition of condition", "The positive class of the training labels, in words."),
    Term("TSC021", "Brain mask volume", "Volume inside the brain mask of one sequence."),
    Term("TSC022", "Brain mask quality", "Named doubts about the brain mask of one sequence."),
    Term("TSC023", "Brain extraction weights", "Which weights drew the brain masks."),
    Term("TSC024", "AI Analysis held - no AED-refractory score", "Document title where a study has no score."),
    Term("TSC025", "Reason for no score", "Code and sentence that say why a study is held."),
    Term("TSC026", "Input digest", "SHA-256 over the content of the images that were read."),
    Term("TSC027", "Standard deviation over folds", "Of the scores of the networks of several folds."),
    Term("TSC028", "Lowest score of a fold", "As TSC027."),
    Term("TSC029", "Highest score of a fold", "As TSC027."),
    Term("TSC030", "Calibration", "Method and number of patients behind (122157, DCM, Probability)."),
    Term(
        "TSC031", "Caution, model range", "In what the study is, or may be, unlike those that the model was made with."
    ),
    Term("TSC032", "Evidence of performance", "Patients and test result of the model, or that it was not evaluated."),
    Term("TSC033", "Missing sequence", "The sequence without which a study was scored, by weights tested for that."),
    Term("TSC034", "Research notice", "Notice of the model, and that the output is for research, first of all items."),
    Term("TSC035", "Replaces earlier report", "What the reports said that stand in Predecessor Documents Sequence."),
    Term("TSC036", "Series of the study", "What a study without score holds: number, description, slices."),
    Term("TSC037", "Repeatability", "Standard deviation of scores of one head that should be one score."),
    Term("TSC038", "Caution, near threshold", "The same head might get a score on the other side of TSC004."),
    Term("TSC039", "Caution, sequences disagree", "Sequences that alone lie on the other side of TSC004."),
)

_MEANINGS: Final = MappingProxyType({term.value: term.meaning for term in TERMS})


def _private(value: str) -> Code:
    return Code(value, SCHEME, _MEANINGS[value])


TITLE: Final = _private("TSC000")
ENSEMBLE_SCORE: Final = _private("TSC001")
SEQUENCE_SCORE: Final = _private("TSC002")
ENSEMBLE_WEIGHT: Final = _private("TSC003")
DECISION_THRESHOLD: Final = _private("TSC004")
OUTPUT_CATEGORY: Final = _private("TSC005")
AT_OR_ABOVE: Final = _private("TSC006")
BELOW: Final = _private("TSC007")
WEIGHTED_AVERAGE: Final = _private("TSC008")
IMAGE_WEIGHTING: Final = _private("TSC009")
INTENDED_USE: Final = _private("TSC010")
INPUT_SERIES: Final = _private("TSC011")
MODEL_DIGEST: Final = _private("TSC012")
FLAIR_WEIGHTED: Final = _private("TSC013")
CONDITION: Final = _private("TSC017")
UNCONTROLLED_SEIZURES: Final = _private("TSC018")
PATENT_SCORE: Final = _private("TSC019")
CONDITION_DEFINITION: Final = _private("TSC020")
MASK_VOLUME: Final = _private("TSC021")
MASK_QUALITY: Final = _private("TSC022")
BRAIN_WEIGHTS: Final = _private("TSC023")
HELD_TITLE: Final = _private("TSC024")
HELD_REASON: Final = _private("TSC025")
INPUT_DIGEST: Final = _private("TSC026")
FOLD_SD: Final = _private("TSC027")
LOWEST_FOLD: Final = _private("TSC028")
HIGHEST_FOLD: Final = _private("TSC029")
CALIBRATION: Final = _private("TSC030")
OUT_OF_RANGE: Final = _private("TSC031")
EVIDENCE: Final = _private("TSC032")
MISSING_SEQUENCE: Final = _private("TSC033")
NOTICE: Final = _private("TSC034")
REPLACES: Final = _private("TSC035")
ARRIVED: Final = _private("TSC036")
REPEATABILITY: Final = _private("TSC037")
NEAR_THRESHOLD: Final = _private("TSC038")
DISAGREEMENT: Final = _private("TSC039")

IMAGING_MEASUREMENT_REPORT: Final = Code("126000", "DCM", "Imaging Measurement Report")
LANGUAGE: Final = Code("121049", "DCM", "Language of Content Item and Descendants")
ENGLISH: Final = Code("en", "RFC5646", "English")
OBSERVER_TYPE: Final = Code("121005", "DCM", "Observer Type")
DEVICE: Final = Code("121007", "DCM", "Device")
DEVICE_UID: Final = Code("121012", "DCM", "Device Observer UID")
DEVICE_NAME: Final = Code("121013", "DCM", "Device Observer Name")
DEVICE_MANUFACTURER: Final = Code("121014", "DCM", "Device Observer Manufacturer")
DEVICE_MODEL: Final = Code("121015", "DCM", "Device Observer Model Name")
DEVICE_SERIAL: Final = Code("121016", "DCM", "Device Observer Serial Number")
PROCEDURE_REPORTED: Final = Code("121058", "DCM", "Procedure reported")
MR_BRAIN: Final = Code("24590-2", "LN", "MR Brain")
SUMMARY: Final = Code("121111", "DCM", "Summary")
COMMENT: Final = Code("121106", "DCM", "Comment")
IMAGE_REGION: Final = Code("111030", "DCM", "Image Region")

BEST_IN_SET: Final = Code("113013", "DCM", "Best In Set")
DOCUMENT_TITLE_MODIFIER: Final = Code("113011", "DCM", "Document Title Modifier")
STUDY: Final = Code("113014", "DCM", "Study")
KEY_OBJECT_DESCRIPTION: Final = Code("113012", "DCM", "Key Object Description")

IMAGE_LIBRARY: Final = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP: Final = Code("126200", "DCM", "Image Library Group")
MODALITY: Final = Code("121139", "DCM", "Modality")
MAGNETIC_RESONANCE: Final = Code("MR", "DCM", "Magnetic Resonance")
TARGET_REGION: Final = Code("123014", "DCM", "Target Region")
HEAD: Final = Code("69536005", "SCT", "Head")
FRAME_OF_REFERENCE_UID: Final = Code("112227", "DCM", "Frame of Reference UID")
PULSE_SEQUENCE_NAME: Final = Code("128230", "DCM", "Pulse Sequence Name")
SOURCE: Final = Code("260753009", "SCT", "Source")

IMAGING_MEASUREMENTS: Final = Code("126010", "DCM", "Imaging Measurements")
MEASUREMENT_GROUP: Final = Code("125007", "DCM", "Measurement Group")
TRACKING_IDENTIFIER: Final = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UID: Final = Code("112040", "DCM", "Tracking Unique Identifier")
FINDING_SITE: Final = Code("363698007", "SCT", "Finding Site")
BRAIN: Final = Code("12738006", "SCT", "Brain")
PROBABILITY: Final = Code("122157", "DCM", "Probability")
DERIVATION: Final = Code("121401", "DCM", "Derivation")
SERIES_UID: Final = Code("112002", "DCM", "Series Instance UID")
QUALITATIVE_EVALUATIONS: Final = Code("C0034375", "UMLS", "Qualitative Evaluations")

ALGORITHM_NAME: Final = Code("111001", "DCM", "Algorithm Name")
ALGORITHM_VERSION: Final = Code("111003", "DCM", "Algorithm Version")
ALGORITHM_MANUFACTURER: Final = Code("122405", "DCM", "Algorithm Manufacturer")
ALGORITHM_PARAMETERS: Final = Code("111002", "DCM", "Algorithm Parameters")
ALGORITHM_FAMILY: Final = Code("111000", "DCM", "Algorithm Family")
ARTIFICIAL_INTELLIGENCE: Final = Code("123110", "DCM", "Artificial Intelligence")

GRADIENT_WEIGHTED_ACTIVATION: Final = Code("130403", "DCM", "Gradient-weighted class activation")

T1_WEIGHTED: Final = Code("110804", "DCM", "T1 Weighted MR Signal Intensity")
T2_WEIGHTED: Final = Code("110805", "DCM", "T2 Weighted MR Signal Intensity")

ACQUISITION_EQUIPMENT: Final = Code("109101", "DCM", "Acquisition Equipment")
PROCESSING_EQUIPMENT: Final = Code("109102", "DCM", "Processing Equipment")

# A bare unit of 1 is printed by two of four viewers as a second number, so scores have an annotated unit.
SCORE_UNIT: Final = Code("{score}", "UCUM", "score")
PERCENT: Final = Code("%", "UCUM", "Percent")
MILLILITRE: Final = Code("ml", "UCUM", "milliliter")


def code_item(code: Code) -> Dataset:
    """Return an item of a code sequence (PS3.3 Table 8.8-1).

    Parameters
    ----------
    code
        Its value has at most 16 characters, its meaning at most 64.
    """
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def scheme_identification(organisation: str) -> Dataset:
    """Return the item that says whose scheme 99TSCWAE is (PS3.3 C.12.1.1, Coding Scheme Identification Sequence).

    Parameters
    ----------
    organisation
        Coding Scheme Responsible Organization.
    """
    item = Dataset()
    item.CodingSchemeDesignator = SCHEME
    item.CodingSchemeName = SCHEME_NAME
    item.CodingSchemeVersion = SCHEME_VERSION
    item.CodingSchemeResponsibleOrganization = organisation
    return item
