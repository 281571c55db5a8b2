"""Report: what was measured in (`ReportInput`), a folder that a person reads out (`render`)."""

from fercompress.report.record import ReportInput
from fercompress.report.render import render, render_runs

__all__ = ["ReportInput", "render", "render_runs"]
