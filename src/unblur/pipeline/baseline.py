"""The baseline that the configuration names, and a report held against it."""

from __future__ import annotations

from unblur.compare.judge.baselines import hold_against, load_baseline
from unblur.compare.report import Report
from unblur.pipeline.job import Job


def since_baseline(job: Job, report: Report) -> Report:
    """The report held against the configuration's baseline, if it names one. Raises as `hold_against`."""
    path = job.config.compare.baseline
    return report if path is None else hold_against(report, load_baseline(path), path)
