"""Which rows train: samplers are held against what they declare, and what resamplers make takes the rows' place."""

from __future__ import annotations

from zoo.jobs.job import Job
from zoo.training.ledger import verify_shift
from zoo.training.mixing import hard_labels
from zoo.training.resampling import resampled
from zoo.training.seeds import generator_for
from zoo.training.settings import Data


def drawn(job: Job, data: Data) -> Data:
    """The data of the interval that is under way, with the rows that its resamplers make.

    Raises:
        ZooError: the last epoch's real index stream, or the rows made, shift the class prior otherwise than declared.
    """
    last = job.intervals[job.interval].stop - 1
    for task in job.data.tasks:
        answer = job.answers[task.name]
        if answer.sampler is not None:
            labels = hard_labels(data.targets[task.name].take(data.train))
            rows = answer.sampler(labels, last, generator_for(job.config.seed, last, "order"))
            verify_shift(answer.name, answer.sampler_shift, labels, labels[rows], len(task.classes))
        if answer.resamplers:
            data = resampled(data, task.name, answer, job.model.heads, job.config.seed, _one_hot(job))
    return data


def _one_hot(job: Job) -> list[tuple[int, int]]:
    """Columns of the encoded covariates that are one category's, from and up to; each that marks holes is one alone."""
    if job.data.covariates is None:
        return []
    encoder = job.data.covariates.encoder
    at, found = len(encoder.mean), []
    marks = [1] * len(encoder.schema.names) if encoder.indicators else []
    for width in (*map(len, encoder.schema.categories), *marks):
        found.append((at, at + width))
        at += width
    return found
