"""Content tree of the report: TID 1500 with every container SEPARATE (PS3.16).

Whatever must be seen is a direct child of a container: viewers do not show children of other items.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from highdicom.sr import ContainerContentItem, ContentItem
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from models.contrast import Contrast
from models.visible_text import visible
from pipeline.brain import MaskFacts
from pipeline.predict import Category, Finding, Spread
from pipeline.report import codes
from pipeline.report.character_sets import LO_LENGTH, SH_LENGTH, items_of, text_of
from pipeline.report.items import (
    ACQUISITION,
    MODIFIER,
    OBSERVATION,
    code,
    container,
    image,
    number,
    text,
    uid,
    whole_frame,
)
from pipeline.report.provenance import Title
from pipeline.report.result_header import MANUFACTURER, REPORT, replaced
from pipeline.report.run import Run, ScoredRun
from pipeline.report.wording import (
    CONDITION_DEFINITION,
    calibration_words,
    contradicting_words,
    evidence_words,
    missing_words,
    near_words,
    no_doubts_words,
    repeatability_words,
    replaced_words,
    research_notice,
    result_sentence,
    sequences_words,
)
from pipeline.rounding import decimals_of
from pipeline.select import SelectedSeries

WEIGHTING: Final = {
    Contrast.T1W: codes.T1_WEIGHTED,
    Contrast.T2W: codes.T2_WEIGHTED,
    Contrast.FLAIR: codes.FLAIR_WEIGHTED,
}
CATEGORY: Final = {Category.AT_OR_ABOVE: codes.AT_OR_ABOVE, Category.BELOW: codes.BELOW}


def content_tree(run: ScoredRun, title: Title) -> ContainerContentItem:
    """Return the root container of the report.

    Parameters
    ----------
    run
        With a score.
    title
        Our own, or that of an Imaging Measurement Report, which adds an image library (TID 1600).

    Returns
    -------
    highdicom.sr.ContainerContentItem
        Root with template DCMR 1500; text in ASCII, numbers rounded.
    """
    with_library = title is Title.IMAGING_MEASUREMENT_REPORT
    children = [
        text(codes.NOTICE, research_notice(run.model)),
        _measurements(run, with_regions=with_library),
        _evaluations(run),
        *([_image_library(run)] if with_library else []),
        *observation_context(run),
    ]
    name = codes.IMAGING_MEASUREMENT_REPORT if with_library else codes.TITLE
    return container(name, children, template="1500", relation=None)


def observer(run: Run) -> Iterator[ContentItem]:
    """Yield in which language who speaks: TID 1204, TID 1004 (this software with this model).

    Parameters
    ----------
    run
        With a score or without.
    """
    model = run.model
    yield code(codes.LANGUAGE, codes.ENGLISH, MODIFIER)
    yield code(codes.OBSERVER_TYPE, codes.DEVICE, OBSERVATION)
    yield uid(codes.DEVICE_UID, run.device_uid, OBSERVATION)
    yield text(codes.DEVICE_NAME, run.provenance.software, OBSERVATION)
    yield text(codes.DEVICE_MANUFACTURER, MANUFACTURER, OBSERVATION)
    yield text(codes.DEVICE_MODEL, f"{model.name} {model.version}", OBSERVATION)
    yield text(codes.DEVICE_SERIAL, model.digest, OBSERVATION)


def observation_context(run: Run) -> Iterator[ContentItem]:
    """Yield who speaks of what: the observer, and the procedure reported.

    Parameters
    ----------
    run
        With a score or without.
    """
    yield from observer(run)
    yield code(codes.PROCEDURE_REPORTED, _procedure(run.header), MODIFIER)


def _procedure(header: Dataset) -> Code:
    """Return the source's own procedure code if it can stand in an ASCII report, else MR Brain."""
    requests = items_of(header, "RequestAttributesSequence")
    candidates = items_of(header, "ProcedureCodeSequence")
    for request in requests:
        candidates += items_of(request, "RequestedProcedureCodeSequence")
    for item in candidates:
        parts = [text_of(item, keyword) for keyword in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")]
        limits = zip(parts, (SH_LENGTH, SH_LENGTH, LO_LENGTH), strict=True)
        if all(part and "?" not in part and len(part) <= limit for part, limit in limits):
            return Code(*parts)
    return codes.MR_BRAIN


def _image_library(run: ScoredRun) -> ContainerContentItem:
    groups = [_image_group(run, role) for role in run.finding.sequences]
    return container(codes.IMAGE_LIBRARY, groups, template="1600")


def _image_group(run: ScoredRun, role: Contrast) -> ContainerContentItem:
    """Describe the series once, and list the image in its middle alone.

    The evidence sequence names every image already, and TID 1500 refers to none of them: listed once more, 600 images
    made the report 225 kB instead of 89. The middle one is there for viewers that open what the library names.
    """
    middle, described = run.sources.middle_instance(role), run.inputs[role].description or "no description"
    frame_of_reference = middle.frame_of_reference_uid
    children: list[ContentItem] = [
        code(codes.MODALITY, codes.MAGNETIC_RESONANCE, ACQUISITION),
        code(codes.TARGET_REGION, codes.HEAD, ACQUISITION),
        text(codes.PULSE_SEQUENCE_NAME, visible(f"{role}: {described}"), ACQUISITION),
    ]
    if frame_of_reference:
        children.append(uid(codes.FRAME_OF_REFERENCE_UID, frame_of_reference, ACQUISITION))
    return container(codes.IMAGE_LIBRARY_GROUP, [*children, image(middle)])


def _measurements(run: ScoredRun, *, with_regions: bool) -> ContainerContentItem:
    """Return the numbers; with `with_regions` also what viewers of an Imaging Measurement Report hang them on."""
    model, roles = run.model, run.finding.sequences
    digest = f"model sha256={model.digest}"
    return container(
        codes.IMAGING_MEASUREMENTS,
        [
            _ensemble_group(run, _regions(run, roles[-1]) if with_regions else []),
            *(_sequence_group(run, role, _regions(run, role) if with_regions else []) for role in roles),
            *_algorithm(model.name, model.version, [model.architecture, digest]),
        ],
    )


def _algorithm(name: str, version: str, parameters: list[str]) -> Iterator[ContentItem]:
    """TID 4019."""
    yield text(codes.ALGORITHM_NAME, name, MODIFIER)
    yield text(codes.ALGORITHM_VERSION, version, MODIFIER)
    yield text(codes.ALGORITHM_MANUFACTURER, MANUFACTURER, MODIFIER)
    for parameter in parameters:
        yield text(codes.ALGORITHM_PARAMETERS, parameter, MODIFIER)
    yield code(codes.ALGORITHM_FAMILY, codes.ARTIFICIAL_INTELLIGENCE, MODIFIER)


def _measured(
    run: ScoredRun, name: str, items: Iterable[ContentItem], more: Iterable[ContentItem] = ()
) -> ContainerContentItem:
    """Return a Measurement Group: what it is about, what was measured, then what only programs ask for."""
    children = [
        text(codes.TRACKING_IDENTIFIER, name, OBSERVATION),
        *items,
        code(codes.FINDING_SITE, codes.BRAIN, MODIFIER),
        # Viewers take the first UID of a group for this one.
        uid(codes.TRACKING_UID, run.names.uid("tracking", name), OBSERVATION),
        *more,
    ]
    return container(codes.MEASUREMENT_GROUP, children, template="1501")


def _regions(run: ScoredRun, role: Contrast) -> list[ContentItem]:
    """Return the whole middle image of a sequence, if its size is known: nothing smaller was looked at."""
    middle = run.sources.middle_instance(role)
    return [whole_frame(middle)] if all(middle.size) else []


def _ensemble_group(run: ScoredRun, regions: list[ContentItem]) -> ContainerContentItem:
    finding, decimals = run.finding, decimals_of(run.finding.score, run.finding.threshold)
    score = number(codes.ENSEMBLE_SCORE, finding.score, codes.SCORE_UNIT, decimals=decimals)
    score.ContentSequence = [code(codes.DERIVATION, codes.WEIGHTED_AVERAGE, MODIFIER), *regions]  # type: ignore[assignment]
    items = [
        score,
        number(codes.DECISION_THRESHOLD, finding.threshold, codes.SCORE_UNIT, decimals=decimals),
        code(codes.OUTPUT_CATEGORY, CATEGORY[finding.category]),
        text(codes.SUMMARY, result_sentence(finding)),
        *(text(codes.OUT_OF_RANGE, f"{doubt.code}: {doubt.sentence}") for doubt in finding.out_of_range),
        *([text(codes.MISSING_SEQUENCE, missing_words(finding))] if finding.missing else []),
        *([text(codes.NEAR_THRESHOLD, near_words(finding))] if finding.near_threshold else []),
        *([text(codes.DISAGREEMENT, contradicting_words(finding))] if finding.contradicting else []),
        # Viewers that hang numbers on an image show no text of a group but this.
        *([text(codes.COMMENT, research_notice(run.model))] if regions else []),
        *(text(codes.REPLACES, words) for words in replaced_words(replaced(REPORT, run))),
        *([text(codes.REPEATABILITY, repeatability_words(finding))] if finding.repeatability else []),
        *_spread(finding.spread()),
        *_probability(finding),
        number(codes.PATENT_SCORE, finding.score_patent, codes.SCORE_UNIT),
        code(codes.CONDITION, codes.UNCONTROLLED_SEIZURES),
    ]
    return _measured(run, f"Ensemble of {sequences_words(finding)}", items)


def _sequence_group(run: ScoredRun, role: Contrast, regions: list[ContentItem]) -> ContainerContentItem:
    finding, model = run.finding, run.model
    digest = f"weights sha256={model.network_digests.get(role, 'unknown')}"
    score = number(codes.SEQUENCE_SCORE, finding.scores[role], codes.SCORE_UNIT)
    if regions:
        score.ContentSequence = regions  # type: ignore[assignment]
    items = [
        score,
        *_spread(finding.spread(role)),
        number(codes.ENSEMBLE_WEIGHT, 100 * float(finding.weights[role]), codes.PERCENT, decimals=1),
        number(codes.MASK_VOLUME, run.brain[role].volume_ml, codes.MILLILITRE, decimals=0),
        code(codes.IMAGE_WEIGHTING, WEIGHTING[role]),
    ]
    more = [
        uid(codes.SERIES_UID, run.inputs[role].series_uid),
        *_algorithm(f"{model.name} {role} network", model.version, [digest]),
    ]
    return _measured(run, role, items, more)


def _spread(spread: Spread | None) -> Iterator[ContentItem]:
    if spread is not None:
        yield number(codes.FOLD_SD, spread.sd, codes.SCORE_UNIT)
        yield number(codes.LOWEST_FOLD, spread.low, codes.SCORE_UNIT)
        yield number(codes.HIGHEST_FOLD, spread.high, codes.SCORE_UNIT)


def _probability(finding: Finding) -> Iterator[ContentItem]:
    if finding.calibrated is not None:
        yield number(codes.PROBABILITY, 100 * finding.calibrated.probability, codes.PERCENT, decimals=1)


def _evaluations(run: ScoredRun) -> ContainerContentItem:
    """Return what is no number; the notice once more, because readers that map a report keep no text at its root."""
    finding, weights = run.finding, run.provenance.brain_weights
    children = [
        text(codes.NOTICE, research_notice(run.model)),
        text(codes.CONDITION_DEFINITION, CONDITION_DEFINITION),
        *(text(codes.INPUT_SERIES, series_words(role, run.inputs[role])) for role in finding.sequences),
        *(text(codes.MASK_QUALITY, mask_words(role, run.brain[role])) for role in finding.sequences),
        *([text(codes.CALIBRATION, calibration_words(finding.calibrated))] if finding.calibrated else []),
        text(codes.EVIDENCE, evidence_words(finding.model)),
        text(codes.INTENDED_USE, run.model.intended_use),
        text(codes.MODEL_DIGEST, f"sha256={finding.model.digest}"),
        text(codes.BRAIN_WEIGHTS, f"{weights.name}, sha256={weights.digest}"),
        text(codes.INPUT_DIGEST, f"sha256={run.provenance.input_digest}"),
    ]
    return container(codes.QUALITATIVE_EVALUATIONS, children)


def series_words(role: Contrast, series: SelectedSeries) -> str:
    """Return which series plays a role, and why.

    Parameters
    ----------
    role
        Of the series.
    series
        That was chosen for it.
    """
    number_words = "without number" if series.series_number is None else str(series.series_number)
    description = series.description.strip() or "no description"
    reasons = f" - {'; '.join(series.evidence)}" if series.evidence else ""
    return visible(f"{role}: series {number_words}, {description}{reasons}")


def mask_words(role: Contrast, facts: MaskFacts) -> str:
    """Return what is odd of a brain mask, in words and by name.

    Parameters
    ----------
    role
        Whose mask.
    facts
        Of the mask.
    """
    flags = "; ".join(f"{flag.meaning} ({flag})" for flag in facts.flags) or no_doubts_words(facts)
    return f"{role}: {facts.volume_ml:.0f} ml, {flags}"
