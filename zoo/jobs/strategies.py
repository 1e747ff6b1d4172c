"""A job's strategies replaced by others, the rest of it as it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zoo.jobs.course import course_of
from zoo.jobs.job import Job
from zoo.specs import parse_schedule
from zoo.training.fitters.choose import check_fitter
from zoo.training.strategy import programs


def with_strategies(job: Job, options: Sequence[str]) -> Job:
    """The job with the strategies that `options` name, for the head that it has.

    Args:
        job: nothing of it has been trained.
        options: as of `--imbalance`.

    Raises:
        ZooError: they do not go together with the run.
    """
    config = job.config
    intervals = parse_schedule(config.freeze).intervals(job.model.view, config.epochs)
    said = programs(options, [job.data.view.statistics(task.name) for task in job.data.tasks])
    course = course_of(config, intervals, said, job.model.heads.call)
    if job.parent:
        job.parent.check_counted(job.data.tasks, job.data.view, course.answers[0])
    found = replace(job, intervals=course.intervals, answered=course.answers)
    check_fitter(job.model.heads, found.answers, config.fitter, sweep=config.sweep)
    return found


def option_for(job: Job, target: str, text: str) -> str:
    """`--imbalance` for one target of the job; the first one needs no name."""
    return text if target == job.data.tasks[0].name else f"{target}={text}"
