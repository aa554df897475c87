"""Finding and sources -> structured report, summary page and document, with deterministic UIDs."""

from pipeline.report.encapsulated_pdf import build_document
from pipeline.report.held import build_held_reports
from pipeline.report.page import draw_page
from pipeline.report.provenance import Predecessor, Provenance, Title
from pipeline.report.result_files import write_dataset, write_held, write_results, write_saliency
from pipeline.report.run import Run, ScoredRun, read_run
from pipeline.report.sources import Sources, header_of_study
from pipeline.report.structured_report import build_reports
from pipeline.report.summary_page import build_summary
from pipeline.report.tree import render_tree
from pipeline.report.views import draw_overlay, tri_planar

__all__ = [
    "Predecessor",
    "Provenance",
    "Run",
    "ScoredRun",
    "Sources",
    "Title",
    "build_document",
    "build_held_reports",
    "build_reports",
    "build_summary",
    "draw_overlay",
    "draw_page",
    "header_of_study",
    "read_run",
    "render_tree",
    "tri_planar",
    "write_dataset",
    "write_held",
    "write_results",
    "write_saliency",
]
