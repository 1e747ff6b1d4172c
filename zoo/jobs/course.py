"""The timeline of a run: breakpoints of the freeze schedule and of strategies, united; refused where they clash."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from zoo.config import TrainConfig
from zoo.data.label_policy import Pseudo
from zoo.data.label_policy import parse_policy as parse_label_policy
from zoo.errors import ZooError
from zoo.jobs.options import NO_VIEWS
from zoo.model.load import one_head
from zoo.run.imputing import parse_imputing
from zoo.specs import Call, Interval, parse_policy
from zoo.training.strategy import Answer, Program

Answers = Mapping[str, Answer]


@dataclass(frozen=True, kw_only=True)
class Course:
    """What a run does when.

    Attributes:
        intervals: in order, a strategy's tail last.
        answers: to imbalance in each of them, by task.
        head: of every target, a strategy's where one brings it.
    """

    intervals: tuple[Interval, ...]
    answers: tuple[Answers, ...]
    head: Call


def course_of(
    config: TrainConfig, intervals: Sequence[Interval], programs: Mapping[str, Program], head: Call
) -> Course:
    """Unite the intervals of a freeze schedule with what the strategies ask for.

    Raises:
        ZooError: in words, what does not go together.
    """
    tails = [(name, program) for name, program in programs.items() if program.tail]
    if tails and any(plan.image_maker for _, program in tails for plan, _ in program.plans):
        raise ZooError(
            f"{_spelled(tails[0][1])}: images that are made stand among the training rows for the whole run, and the "
            "second stage of the head is to see the rows as they are; choose one"
        )
    if tails and len(programs) > 1:
        name, program = tails[0]
        raise ZooError(
            f"{_spelled(program)} (target {name}) appends epochs to the run in which its head alone trains, and the "
            "heads of the other targets would go on with it; train one --target"
        )
    breaks = sorted({each for program in programs.values() for each in program.breaks(config.epochs)})
    pseudo = _pseudo_begins(config)
    cuts = sorted({*breaks, *([pseudo] if pseudo else [])})
    whole = [part for interval in intervals for part in _cut(interval, cuts)]
    whole = [replace(each, restart=True, pseudo=True) if each.start == pseudo else each for each in whole]
    for _, program in tails:
        assert program.tail is not None  # noqa: S101  chosen so
        stop = config.epochs + program.tail.epochs
        policy, rate = parse_policy("head"), program.tail.rate
        whole.append(
            Interval(policy=policy, start=config.epochs, stop=stop, rate=rate, restart=True, tail=program.tail)
        )
    answers = tuple({name: each.at(part.start, config.epochs) for name, each in programs.items()} for part in whole)
    found = Course(intervals=tuple(whole), answers=answers, head=_head(config, head, answers[-1]))
    for interval, answered in zip(found.intervals, answers, strict=True):
        for said in _refusals(config, interval, answered, alone=len(whole) == 1):
            raise ZooError(said)
    _refuse_fitters(config, found)
    changed = any(answer.class_transforms for answered in answers for answer in answered.values())
    if config.views is not None and config.augment.strip() == "none" and not changed:
        raise ZooError(NO_VIEWS)
    return found


def _pseudo_begins(config: TrainConfig) -> int | None:
    """The epoch with which pseudo-labels begin, or None."""
    asked = parse_label_policy(config.missing_labels)
    if not isinstance(asked, Pseudo):
        return None
    begins = asked.begins(config.epochs)
    if not begins:
        raise ZooError(
            f"--missing-labels {config.missing_labels}: of {config.epochs} epochs none would come before, or none "
            "after, the labels are given; raise --epochs, or say another start"
        )
    return begins


def _cut(interval: Interval, breaks: Sequence[int]) -> Iterator[Interval]:
    """The interval in parts; rates begin anew with the first alone."""
    edges = [interval.start, *(each for each in breaks if interval.start < each < interval.stop), interval.stop]
    for start, stop in pairwise(edges):
        yield replace(interval, start=start, stop=stop, restart=interval.restart and start == interval.start)


def _spelled(program: Program) -> str:
    return "+".join(str(call) for call in program.calls)


def _head(config: TrainConfig, head: Call, answers: Answers) -> Call:
    brought = {str(answer.head): answer for answer in answers.values() if answer.head}
    if not brought:
        return head
    first, *more = brought.values()
    assert first.head is not None  # noqa: S101  chosen so
    if more:
        raise ZooError(f"{first.name} brings the head {first.head}, {more[0].name} {more[0].head}; choose one")
    if config.head not in (None, "linear", str(first.head)):
        raise ZooError(f"{first.name} brings the head {first.head}, and --head {config.head} names another; choose one")
    return one_head(str(first.head))


def _refusals(config: TrainConfig, interval: Interval, answers: Answers, *, alone: bool) -> Iterator[str]:
    """What one interval cannot do, a sentence each."""
    samplers = [answer.name for answer in answers.values() if answer.sampler]
    if len(samplers) > 1:
        yield f"{' and '.join(samplers)} each draw the rows of an epoch; one target can do that"
    frozen = interval.policy.head_alone
    for name, answer in answers.items():
        said = f"{answer.name} (target {name})"
        if len(answers) > 1:
            yield from _about_targets(answer, said, len(answers))
        yield from _about_options(config, answer, said, frozen=frozen)
        if answer.resamplers:
            yield from _about_features(config, f"{said} makes rows of features", frozen=frozen)
        if answer.head_fitter:
            yield from _about_features(config, f"{said} fits its head once, on features", frozen=frozen and alone)


def _about_targets(answer: Answer, said: str, count: int) -> Iterator[str]:
    slots: dict[str, object] = {
        "mixes rows": answer.mixer,
        "makes rows": answer.resamplers or answer.image_maker,
        "fits its head": answer.head_fitter,
        "shows rows": answer.class_transforms,
    }
    for does, slot in slots.items():
        if slot:
            yield f"{said} {does} by the labels of one target, and this run has {count}; train one --target"


def _about_options(config: TrainConfig, answer: Answer, said: str, *, frozen: bool) -> Iterator[str]:
    if config.label_smoothing and answer.criterion:
        yield (
            f"--label-smoothing spreads labels in the cross-entropy, and {said} brings a loss of its own; "
            "leave out one of them"
        )
    if answer.mixer and (config.mixup or config.cutmix):
        yield f"{said} mixes the rows of a batch, and so do --mixup and --cutmix; leave out one of them"
    if answer.mixes_pixels and frozen:
        yield (
            f"{said} mixes images, and --freeze {config.freeze} trains on features that are computed once for each "
            "image; mix features (on=features), or let part of the backbone train, as with --freeze last(1)"
        )
    asked = parse_imputing(config.impute)
    if answer.head_fitter and asked.varies:
        yield f"{said} fits the head on rows as they are, and {asked.varies} changes them; choose one"
    if answer.resamplers and asked.multiple:
        yield f"{said} makes rows of rows as they are, and {asked.varies} changes them; choose one"
    if config.augment.strip() == "none" and 0 < len(answer.class_transforms) < len(answer.log_prior or ()):
        yield (
            f"{said} changes images of rare classes alone, so that a network learns that what is changed is rare, and "
            "what is not cannot be; change the others too with --augment light, or insist with others=none"
        )
    if answer.class_transforms and (answer.resamplers or answer.head_fitter):
        yield f"{said} shows images of some classes changed, and fits features of images as they are; choose one"


def _about_features(config: TrainConfig, said: str, *, frozen: bool) -> Iterator[str]:
    if not frozen:
        yield f"{said} that stand still, and --freeze {config.freeze} moves them; say --freeze head"
    if config.augment.strip() != "none":
        yield f"{said} of images as they are; leave out --augment"


def _refuse_fitters(config: TrainConfig, course: Course) -> None:
    """Whatever fits heads in its own way does so once, over the whole run."""
    special = "--sweep" if config.sweep else f"--fitter {config.fitter}"
    last = next(iter(course.answers[-1].values()))
    names = " and ".join(answer.name for answer in course.answers[-1].values() if answer.name)
    if any(each.pseudo for each in course.intervals):
        names = "--missing-labels pseudo"
    if special != "--fitter adamw" and len(course.intervals) > 1:
        raise ZooError(f"{special} fits heads once, and {names} divides the run into parts; leave out {special}")
    if special != "--fitter adamw" and last.head_fitter:
        raise ZooError(f"{names} fits the head in its own way; leave out {special}")
    if special != "--fitter adamw" and (varies := parse_imputing(config.impute).varies):
        raise ZooError(f"{special} sees rows as they are, and {varies} changes them; leave out one of them")
    mixing = next((each.name for each in course.answers[-1].values() if each.mixer or each.class_transforms), None)
    if special != "--fitter adamw" and mixing:
        raise ZooError(f"{special} sees rows as they are, and {mixing} changes them in each step; leave out {special}")
