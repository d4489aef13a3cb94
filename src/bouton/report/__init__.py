"""The report of a run."""

from bouton.report.page import write_report

__all__ = ["write_report"]
