"""The report of a run: one HTML file that opens from disk, made from nothing but the files of the run directory.

from curate.report import write_report

write_report("runs/today")          # runs/today/report.html
"""

from curate.report.page import REPORT_FILE, write_report
from curate.report.panels import BarChart, Column, LineChart, Panel, Table

__all__ = ["REPORT_FILE", "BarChart", "Column", "LineChart", "Panel", "Table", "write_report"]
