"""Which studies are for the node at all: what a hospital sends it besides is filtered, and not held."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from dicom_node.config.values import Days, Pattern, Section

Years = Annotated[float, Field(strict=True, ge=0, le=150, allow_inf_nan=False)]


class Missing(StrEnum):
    """What becomes of a study that does not say what a rule asks for."""

    READ = "read"
    FILTER = "filter"


class RoutingSection(Section):
    """Which studies are for the node, as far as that is certain; `dicom-node explain --replay 50` rehearses it."""

    only_study_description: tuple[Pattern, ...] = Field(
        default=(),
        description="Regular expressions of study descriptions that are for the node, such as ['epilep', 'tsc']. "
        "Default: any.",
    )
    never_study_description: tuple[Pattern, ...] = Field(
        default=(), description="Regular expressions of study descriptions that are not, such as ['^mr knee']."
    )
    only_body_part: tuple[Pattern, ...] = Field(
        default=(), description="The same for Body Part Examined, such as ['^(head|brain)$']. Default: any."
    )
    never_body_part: tuple[Pattern, ...] = Field(default=(), description="Body parts that are not for the node.")
    only_institution: tuple[Pattern, ...] = Field(
        default=(), description="The same for Institution Name. Default: any."
    )
    never_institution: tuple[Pattern, ...] = Field(
        default=(), description="Institutions whose studies are not for the node."
    )
    only_peers: tuple[str, ...] = Field(
        default=(), description="Names of [[peers]] whose studies are for the node. Default: of all sources."
    )
    never_peers: tuple[str, ...] = Field(default=(), description="Names of [[peers]] whose studies are not.")
    min_age_years: Years | None = Field(
        default=None,
        description="Age at the study (years) below which a patient is not for the node. Default: any.",
        examples=[0.25],
    )
    max_age_years: Years | None = Field(
        default=None,
        description="The same for the highest age; who is 18 is 18 until the birthday. Default: any.",
        examples=[18.0],
    )
    missing: Missing = Field(
        default=Missing.READ,
        description='Studies that lack what an "only" rule or an age asks for: "read", or "filter". What is there and '
        "cannot be read never filters.",
    )
    keep_days: Days = Field(
        default=7.0, description="Days after which all of a filtered study is removed; until then `retry` reads it."
    )

    @model_validator(mode="after")
    def _ages_in_order(self) -> RoutingSection:
        low, high = self.min_age_years, self.max_age_years
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_age_years ({low:g}) is more than max_age_years ({high:g}): exchange them")
        return self
