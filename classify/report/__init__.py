"""Curves, matrices, grids and tables of classifiers, as figures and self-contained pages.

figures.py    of one run and of one evaluation: curves, confusions, each class, reliability
across.py     of several runs side by side
pictures.py   samples of each class, and what was misclassified, as grids
pages.py      of a run, of an evaluation, of several runs, of explanations
"""

from classify.report.pages import (
    report_run,
    write_explanations,
    write_leaderboard,
    write_report,
)

__all__ = ["report_run", "write_explanations", "write_leaderboard", "write_report"]
