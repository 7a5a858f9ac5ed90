"""Curves, matrices, grids and tables of classifiers, as figures and self-contained pages.

figures.py    training curves, confusion matrix, best classes, reliability
pages.py      of a run, of an evaluation, of several runs side by side
"""

from classify.report.pages import report_run, write_evaluation, write_leaderboard

__all__ = ["report_run", "write_evaluation", "write_leaderboard"]
