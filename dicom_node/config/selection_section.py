"""What a site knows of its own series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from dicom_node.config.values import Pattern, Section
from models.contrast import Contrast

if TYPE_CHECKING:
    from pipeline.select import SiteRules


class SelectionSection(Section):
    """What this site knows of its own series; `dicom-node explain --replay 50` shows what a change would do."""

    t1w: tuple[Pattern, ...] = Field(
        default=(),
        description="Regular expressions of series descriptions that mean T1W here, such as ['^sag bravo', 't1_km$'].",
    )
    t2w: tuple[Pattern, ...] = Field(default=(), description="The same for T2W.")
    flair: tuple[Pattern, ...] = Field(default=(), description="The same for FLAIR.")
    never: tuple[Pattern, ...] = Field(
        default=(),
        description="Regular expressions of series descriptions that are never chosen, such as ['_research'].",
    )
    contrast: Literal["refuse", "allow"] = Field(
        default="refuse", description='Whether a series after contrast agent may be T1W: "refuse" or "allow".'
    )
    min_slices: Annotated[int, Field(strict=True, ge=15, le=400)] = Field(
        default=15, description="Fewest slices of a usable series; 15 to 400."
    )
    plane: Literal["any", "axial", "coronal", "sagittal"] = Field(
        default="axial",
        description='Plane preferred among two-dimensional series: "any", "axial", "coronal", "sagittal".',
    )

    def rules(self) -> SiteRules:
        """Return these rules as the selection takes them."""
        from pipeline.select import SiteRules  # noqa: PLC0415

        names = {Contrast.T1W: self.t1w, Contrast.T2W: self.t2w, Contrast.FLAIR: self.flair}
        return SiteRules(names, self.never, self.contrast, self.min_slices, self.plane)
