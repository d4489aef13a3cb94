"""The report of a run."""

from bouton.report.page import write_report
from bouton.report.thresholds import ThresholdCurve

__all__ = ["ThresholdCurve", "write_report"]
