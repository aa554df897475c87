"""Finding and sources -> structured report and summary page, with deterministic UIDs."""

from pipeline.report.provenance import Predecessor, Provenance
from pipeline.report.structured_report import build_reports, write_dataset
from pipeline.report.summary_page import build_summary, draw_page
from pipeline.report.tree import render_tree

__all__ = [
    "Predecessor",
    "Provenance",
    "build_reports",
    "build_summary",
    "draw_page",
    "render_tree",
    "write_dataset",
]
