"""What a plan's slots promise, each tried on made-up rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.model.network import TaskHeads
from zoo.specs import ClassStatistics, Plan, Target
from zoo.specs.plans import HeadEdit, HeadFitter, ImageMaker
from zoo.testing.check import require
from zoo.testing.fingerprints import fingerprint
from zoo.testing.surroundings import sheltered
from zoo.training.fitters.brought import load_head
from zoo.training.ledger import drawn_shift, verify_shift

WIDTH = 7


def generator(seed: int = 0) -> torch.Generator:
    """Random numbers of their own."""
    return torch.Generator().manual_seed(seed)


def labels_of(statistics: ClassStatistics) -> Tensor:
    """Labels int64 (N,) with the counts of `statistics` in mixed order, and some rows of -1, whose label is unknown."""
    counts = torch.tensor(statistics.counts)
    known = torch.repeat_interleave(torch.arange(len(counts)), counts)
    labels = torch.cat([known, torch.full((max(3, len(known) // 20),), -1)])
    return labels[torch.randperm(len(labels), generator=generator())]


def target_of(statistics: ClassStatistics, labels: Tensor) -> Target:
    """The target of hard labels; for a multilabel task each row has its one class."""
    known, value = labels >= 0, labels.clamp(min=0)
    if statistics.task.kind == "multilabel":
        value = torch.nn.functional.one_hot(value, len(statistics.counts)).float()
        known = known[:, None].expand(-1, len(statistics.counts)).contiguous()
    return Target(value=value, mask=known)


def inputs_of(plan: Plan, rows: int) -> tuple[Tensor, ...]:
    """What a mixer gets: images where it acts on pixels, else the features that cross a boundary."""
    shapes = [(rows, 3, 8, 8)] if plan.acts_on == "pixels" else [(rows, WIDTH), (rows, 4, WIDTH)]
    return tuple(torch.randn(shape, generator=generator(2)) for shape in shapes)


def _require_values(what: str, values: Sequence[float] | None, statistics: ClassStatistics) -> None:
    if values is None:
        return
    classes = len(statistics.counts)
    require(len(values) == classes, f"{what} has {len(values)} values for {classes} classes")
    require(all(math.isfinite(value) for value in values), f"{what} is not finite: {tuple(values)}")


def weights_fit(plan: Plan, statistics: ClassStatistics) -> None:
    """Element weights are finite, at least zero, and one a class."""
    _require_values("element_weights", plan.element_weights, statistics)
    require(max(plan.element_weights or (1.0,)) > 0, "every element weight is zero: nothing would be learned")


def shift_fits(plan: Plan, statistics: ClassStatistics) -> None:
    """The shift is finite and has one value a class."""
    _require_values("shift", plan.shift, statistics)


def bias_fits(plan: Plan, statistics: ClassStatistics) -> None:
    """The bias is a function of the log prior alone, finite, one a class, and leaves what it is given."""
    assert plan.logit_bias is not None  # noqa: S101  asked only where the slot is filled
    for prior in (list(statistics.imbalance), [0.0] * len(statistics.counts)):
        given = list(prior)
        first = plan.logit_bias(given)
        require(given == prior, "logit_bias writes to the log prior that it is given")
        _require_values("logit_bias", first, statistics)
        require(tuple(first) == tuple(plan.logit_bias(given)), "logit_bias gives another bias the second time")


def _batches(statistics: ClassStatistics) -> list[Tensor]:
    classes = len(statistics.counts)
    return [torch.arange(3 * classes) % classes, torch.full((4,), classes - 1), torch.tensor([0])]


def _losses(plan: Plan, statistics: ClassStatistics, labels: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    logits = scale * torch.randn((len(labels), len(statistics.counts)), generator=generator(3))
    logits.requires_grad_()
    assert plan.criterion is not None  # noqa: S101  asked only where the slot is filled
    return plan.criterion(logits, target_of(statistics, labels)), logits


def criterion_gives_losses(plan: Plan, statistics: ClassStatistics) -> None:
    """One finite loss a row, or a label, with a finite gradient, also for one class, one row, and sure logits."""
    for labels in _batches(statistics):
        for scale in (1.0, 40.0):
            losses, logits = _losses(plan, statistics, labels, scale)
            said = f"{len(labels)} rows with logits of size {scale:g}"
            shape = tuple(losses.shape)
            wanted = tuple(logits.shape) if statistics.task.kind == "multilabel" else (len(labels),)
            require(shape == wanted, f"{said}: losses {shape}, not {wanted}; the trainer reduces them")
            require(bool(losses.isfinite().all()), f"{said}: a loss is not finite")
            losses.sum().backward()  # type: ignore[no-untyped-call]
            gradient = logits.grad
            require(gradient is not None and bool(gradient.isfinite().all()), f"{said}: the gradient is not finite")


def each_loss_is_of_its_row(plan: Plan, statistics: ClassStatistics) -> None:
    """A row's loss does not depend on the rows beside it: some of them are masked afterwards."""
    labels = _batches(statistics)[0]
    losses, logits = _losses(plan, statistics, labels, 1.0)
    assert plan.criterion is not None  # noqa: S101  asked only where the slot is filled
    part = plan.criterion(logits[:2], target_of(statistics, labels[:2]))
    require(torch.allclose(losses[:2], part, rtol=1e-4, atol=1e-6), "a row's loss changes with the rows beside it")


def _twice(run: Callable[[torch.Generator], Any]) -> tuple[Any, bool]:
    """What it gives, and whether it gives it again from the same generator while all else is random."""
    with sheltered():
        torch.manual_seed(1)
        first = run(generator(4))
        torch.manual_seed(2)
        again = run(generator(4))
    return first, fingerprint(first) == fingerprint(again)


def sampler_draws_rows(plan: Plan, statistics: ClassStatistics) -> None:
    """Positions of labelled rows, int64, decided by labels, epoch and generator alone."""
    sampler, labels = plan.sampler, labels_of(statistics)
    assert sampler is not None  # noqa: S101  asked only where the slot is filled
    before = labels.clone()
    for epoch in (0, 1):
        rows, same = _twice(lambda random, epoch=epoch: sampler(labels, epoch, random))  # type: ignore[misc]
        require(isinstance(rows, Tensor) and rows.dtype == torch.int64, "the sampler gives no int64 tensor")
        require(rows.ndim == 1 and len(rows) > 0, f"the sampler gives rows of shape {tuple(rows.shape)}")
        fits = bool(((rows >= 0) & (rows < len(labels))).all())
        require(fits, f"the sampler names rows {int(rows.min())} to {int(rows.max())} of {len(labels)}")
        require(bool((labels[rows] >= 0).all()), "the sampler names rows whose label is unknown")
        require(same, "the sampler draws other rows from the same generator")
    require(torch.equal(labels, before), "the sampler writes to the labels")


def mixer_keeps_shapes(plan: Plan, statistics: ClassStatistics) -> None:
    """Inputs of the same shapes with soft targets of the same rows, decided by the generator alone."""
    mixer, classes = plan.mixer, len(statistics.counts)
    assert mixer is not None  # noqa: S101  asked only where the slot is filled
    for rows in (6, 1):
        given, target = inputs_of(plan, rows), target_of(statistics, torch.arange(rows) % classes)
        copies = tuple(one.clone() for one in given)
        (mixed, soft), same = _twice(lambda random, g=given, t=target: mixer(tuple(x.clone() for x in g), t, random))  # type: ignore[misc]
        shapes, wanted = [tuple(one.shape) for one in mixed], [tuple(one.shape) for one in copies]
        require(shapes == wanted, f"the mixer turns inputs {wanted} into {shapes}")
        require(all(bool(one.isfinite().all()) for one in mixed), "the mixer gives inputs that are not finite")
        require(tuple(soft.value.shape) == (rows, classes), f"the mixed target has shape {tuple(soft.value.shape)}")
        shares = soft.value.float().sum(dim=1)
        sums = statistics.task.kind != "classification" or torch.allclose(shares, torch.ones(rows), atol=1e-4)
        require(sums and bool((soft.value >= 0).all()), "the shares of a mixed row are not at least 0 with sum 1")
        require(same, "the mixer gives something else from the same generator")


def resamplers_fit(plan: Plan, statistics: ClassStatistics) -> None:
    """Features of the same width with a target of as many rows, decided by the generator alone."""
    everyone = target_of(statistics, labels_of(statistics))
    features, target = known(torch.randn((len(everyone), WIDTH), generator=generator(5)), everyone)

    def run(random: torch.Generator) -> tuple[Tensor, Target]:
        drawn, of = features.clone(), target
        for resampler in plan.resamplers:
            drawn, of = resampler(drawn, of, random)
        return drawn, of

    (drawn, of), same = _twice(run)
    require(
        drawn.ndim == 2 and drawn.shape[1] == WIDTH, f"features {tuple(features.shape)} become {tuple(drawn.shape)}"
    )
    require(len(drawn) == len(of) > 0, f"{len(drawn)} rows of features have {len(of)} targets")
    classes = of.value[of.mask].long() if of.value.ndim == 1 else torch.zeros(1).long()
    fits = bool(((classes >= 0) & (classes < len(statistics.counts))).all())
    require(fits, f"the resamplers give class {int(classes.max())} of {len(statistics.counts)} classes")
    require(drawn.dtype == features.dtype and bool(drawn.isfinite().all()), "resampled features are no finite float32")
    require(same, "the resamplers give something else from the same generator")


def made(maker: ImageMaker, statistics: ClassStatistics) -> tuple[Tensor, Target]:
    """What an image maker makes of noise."""
    everyone = target_of(statistics, labels_of(statistics))
    noise = torch.rand((len(everyone), 3, maker.side, maker.side), generator=generator(9))
    return maker(*known(noise, everyone), generator())


def maker_fits(plan: Plan, statistics: ClassStatistics) -> None:
    """Pictures in [0, 1] with as many labels, which shift the classes as is declared, by the generator alone."""
    maker = plan.image_maker
    assert maker is not None  # noqa: S101  asked only where the slot is filled
    pictures, target = made(maker, statistics)
    wanted = (len(target), 3, maker.side, maker.side)
    require(tuple(pictures.shape) == wanted, f"the image maker gives {tuple(pictures.shape)} for {len(target)} labels")
    fits = bool(((pictures >= 0) & (pictures <= 1)).all()) and pictures.dtype == torch.float32
    require(fits, "the image maker gives pictures outside [0, 1], or that are not float32")
    again, _ = made(maker, statistics)
    require(torch.equal(pictures, again), "the image maker gives other pictures from the same generator")
    own = labels_of(statistics)
    own = own[own >= 0]
    try:
        counted = torch.cat([own, target.value])
        verify_shift("the image maker", drawn_shift(plan), own, counted, len(statistics.counts))
    except ZooError as error:
        require(False, str(error))


def known(rows: Tensor, target: Target) -> tuple[Tensor, Target]:
    """Those rows whose label is known, and their target."""
    chosen = torch.nonzero(target.mask if target.mask.ndim == 1 else target.mask.all(dim=1))[:, 0]
    return rows[chosen], target.take(chosen)


def sampler_keeps_its_word(plan: Plan, statistics: ClassStatistics) -> None:
    """Over an epoch the classes are drawn as often as the declared shift says; without one, as often as they are."""
    sampler, labels = plan.sampler, labels_of(statistics)
    assert sampler is not None  # noqa: S101  asked only where the slot is filled
    drawn = labels[sampler(labels, 0, generator())]
    try:
        verify_shift("the sampler", drawn_shift(plan), labels, drawn, len(statistics.counts))
    except ZooError as error:
        require(False, str(error))


def fitted(plan: Plan, fitter: HeadFitter, statistics: ClassStatistics) -> dict[str, Tensor]:
    """What a head fitter makes of features in which the classes lie apart."""
    everyone = target_of(statistics, labels_of(statistics))
    rows, target = known(torch.randn((len(everyone), WIDTH), generator=generator(8)), everyone)
    rows = rows + 4 * torch.nn.functional.one_hot(target.value, WIDTH)
    return dict(fitter(rows, target, torch.ones(len(target)), generator()))


def fitter_gives_its_head(plan: Plan, statistics: ClassStatistics) -> None:
    """The tensors are those of the head that the plan names, finite, and decided by the generator alone."""
    fitter, head = plan.head_fitter, plan.head
    assert fitter is not None  # noqa: S101  asked only where the slot is filled
    assert head is not None  # noqa: S101  a plan with a head fitter has one
    (state, same) = _twice(lambda random: fitted(plan, lambda f, t, w, _: fitter(f, t, w, random), statistics))
    heads = TaskHeads([statistics.task], WIDTH, head=head)
    try:
        load_head(heads.heads[0], state, plan.strategy)
    except ZooError as error:
        require(False, str(error))
    logits = heads(torch.randn((5, WIDTH), generator=generator(9)))[statistics.task.name]
    require(bool(logits.isfinite().all()), "the fitted head gives logits that are not finite")
    require(same, "the head fitter gives something else from the same generator")


def edited(edit: HeadEdit, statistics: ClassStatistics) -> tuple[Tensor, Tensor]:
    """What a head edit makes of a linear layer."""
    classes = len(statistics.counts)
    weight, bias = torch.randn((classes, WIDTH), generator=generator(3)), torch.randn(classes, generator=generator(4))
    labels = torch.arange(5 * classes) % classes
    rows = torch.randn((len(labels), WIDTH), generator=generator(5))
    target = Target(value=labels, mask=torch.ones(len(labels), dtype=torch.bool))
    return edit(weight, bias, lambda own, moved: rows @ own.T + moved, target)


def edit_gives_a_layer(plan: Plan, statistics: ClassStatistics) -> None:
    """Weight and bias keep their shapes and are finite."""
    assert plan.head_edit is not None  # noqa: S101  asked only where the slot is filled
    weight, bias = edited(plan.head_edit, statistics)
    classes = len(statistics.counts)
    shapes = tuple(weight.shape), tuple(bias.shape)
    require(shapes == ((classes, WIDTH), (classes,)), f"the edited layer has shapes {shapes[0]} and {shapes[1]}")
    require(bool(weight.isfinite().all() and bias.isfinite().all()), "the edited layer is not finite")


def tuned_bias_fits(plan: Plan, statistics: ClassStatistics) -> None:
    """It is finite and one a class, also where a class has no row."""
    assert plan.tuned_bias is not None  # noqa: S101  asked only where the slot is filled
    classes = len(statistics.counts)
    for labels in (torch.arange(6 * classes) % classes, torch.zeros(4, dtype=torch.int64)):
        logits = torch.randn((len(labels), classes), generator=generator(6))
        target = target_of(statistics, labels)
        _require_values("tuned_bias", plan.tuned_bias(logits, target), statistics)
