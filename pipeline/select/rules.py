"""What a site may say about how its series are chosen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from models.contrast import Contrast
from models.site_patterns import search
from pipeline.geometry import MIN_SLICES

Plane = Literal["axial", "coronal", "sagittal"]


@dataclass(frozen=True, slots=True)
class SiteRules:
    """What a site knows of its own series.

    Attributes
    ----------
    names
        Regular expressions (see `models.site_patterns`) of descriptions that name a role at this site. They
        outrank every built-in word, but never the physics: where timing speaks against them the series is ambiguous.
    never
        Regular expressions of descriptions that are never chosen at this site.
    contrast
        Whether a T1 weighted series after contrast agent may be T1W.
    min_slices
        Fewest slices of a usable volume; never below what the geometry gate asks for.
    plane
        Which plane of two-dimensional series is preferred, or ``any``.
    """

    names: dict[Contrast, tuple[str, ...]] = field(default_factory=dict)
    never: tuple[str, ...] = ()
    contrast: Literal["refuse", "allow"] = "refuse"
    min_slices: int = MIN_SLICES
    plane: Plane | Literal["any"] = "axial"

    def named_role(self, description: str) -> tuple[Contrast, str] | None:
        """Return the role that a site's own pattern names, with the words that matched.

        Parameters
        ----------
        description
            Of a series.

        Returns
        -------
        tuple of Contrast and str, or None
            Of several roles FLAIR comes first, then T2W.
        """
        for role in (Contrast.FLAIR, Contrast.T2W, Contrast.T1W):
            for pattern in self.names.get(role, ()):
                if (found := search(pattern, description)) is not None:
                    return role, found
        return None

    def excluded(self, description: str) -> str | None:
        """Return the words by which a site excludes a description.

        Parameters
        ----------
        description
            Of a series.

        Returns
        -------
        str or None
            What the first pattern matched.
        """
        for pattern in self.never:
            if (found := search(pattern, description)) is not None:
                return found
        return None


BUILT_IN = SiteRules()
"""No site knowledge."""
