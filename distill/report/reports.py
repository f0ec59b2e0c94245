"""What a run writes for its reader: of each stage when it is tested and done, and at its end."""

from distill.report.attention.run_pictures import draw_at_stage_end
from distill.report.class_report import write_class_report
from distill.report.run_report import report_run

__all__ = ["draw_at_stage_end", "report_run", "write_class_report"]
