"""What a head promises: features become logits, row by row, and nothing but its state decides how."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.specs import HeadRecord
from zoo.testing.check import Check, require
from zoo.testing.fingerprints import fingerprint
from zoo.testing.parameters import default_setting, parameter_checks
from zoo.testing.surroundings import changed_since, sheltered

WIDTH, OUTPUTS, TOKENS = 7, 3, 5
SHAPES = ((WIDTH, OUTPUTS), (5, 2), (64, 10), (WIDTH, 1))
"""Widths and numbers of outputs that are built; one output is what a regression has."""


def head_checks(record: HeadRecord) -> list[Check]:
    """The checks of one kind of head."""
    subject = f"head {record.name}"
    checks = [Check(subject=subject, name=name, run=partial(_run, run, record)) for name, run in CHECKS.items()]
    return checks + parameter_checks(subject, record.parameters, partial(_fingerprint, record))


def _run(run: Callable[[HeadRecord], None], record: HeadRecord) -> None:
    with sheltered():
        run(record)


def _fingerprint(record: HeadRecord, parameters: object) -> Any:
    with sheltered():
        torch.manual_seed(0)  # values of the parameters count too: one of them may set how weights begin
        return fingerprint(record.build(WIDTH, OUTPUTS, parameters))


def _build(record: HeadRecord, *, width: int = WIDTH, outputs: int = OUTPUTS, seed: int = 0) -> nn.Module:
    parameters = default_setting(record.parameters)
    torch.manual_seed(seed)
    return record.build(width, outputs, parameters)


def _awake(record: HeadRecord) -> nn.Module:
    """A head in eval mode whose weights were moved, as training does: one that starts at zero tells nothing."""
    head = _build(record).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
    return head


def _features(record: HeadRecord, rows: int, *, width: int = WIDTH, tokens: int = TOKENS, seed: int = 0) -> Tensor:
    shape = (rows, tokens, width) if record.takes == "tokens" else (rows, width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def _require_logits(found: object, rows: int, outputs: int, features: Tensor) -> None:
    given = f"features {tuple(features.shape)} of {features.dtype}"
    require(isinstance(found, Tensor), f"{given} become a {type(found).__name__}, not a tensor of logits")
    assert isinstance(found, Tensor)  # noqa: S101  for the type checker
    shape, wanted = tuple(found.shape), (rows, outputs)
    require(shape == wanted, f"{given} become logits {shape}, not {wanted}")
    require(found.dtype == features.dtype, f"{given} become logits of {found.dtype}")
    require(bool(found.isfinite().all()), f"{given} become logits that are not finite")


def builds(record: HeadRecord) -> None:
    """`build` gives a torch module for any width and any number of outputs."""
    for width, outputs in SHAPES:
        head = _build(record, width=width, outputs=outputs)
        require(isinstance(head, nn.Module), f"build({width}, {outputs}) gives {head!r}, which is no torch module")
        features = _features(record, 2, width=width)
        with torch.no_grad():
            _require_logits(head.eval()(features), 2, outputs, features)


def gives_logits(record: HeadRecord) -> None:
    """Any number of rows, and of tokens where it takes tokens, become one float32 logit a class."""
    head = _awake(record)
    for rows in (1, 2, 5):
        for tokens in (1, 4, 9) if record.takes == "tokens" else (0,):
            features = _features(record, rows, tokens=tokens)
            with torch.no_grad():
                _require_logits(head(features), rows, OUTPUTS, features)


def trains_on_two_rows(record: HeadRecord) -> None:
    """A step on two rows works and leaves the head finite; the last batch of an epoch may be that small."""
    head = _build(record).train()
    optimiser = torch.optim.SGD(head.parameters(), lr=0.1)
    features = _features(record, 2)
    logits = head(features)
    _require_logits(logits, 2, OUTPUTS, features)
    F.cross_entropy(logits, torch.tensor([0, 1])).backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    lost = [name for name, parameter in head.named_parameters() if not parameter.isfinite().all()]
    require(not lost, f"not finite after a step: {', '.join(lost)}")


def gets_gradients(record: HeadRecord) -> None:
    """A gradient, finite though perhaps zero, reaches each parameter that is to be trained."""
    head = _build(record).train()
    trained = {name: parameter for name, parameter in head.named_parameters() if parameter.requires_grad}
    require(bool(trained), "it has no parameter that could be trained")
    F.cross_entropy(head(_features(record, 6)), torch.arange(6) % OUTPUTS).backward()  # type: ignore[no-untyped-call]
    missed = [name for name, parameter in trained.items() if parameter.grad is None]
    require(not missed, f"no gradient reaches {', '.join(missed)}")
    strange = [name for name, one in trained.items() if one.grad is not None and not one.grad.isfinite().all()]
    require(not strange, f"the gradient is not finite of {', '.join(strange)}")


def evaluates_alike(record: HeadRecord) -> None:
    """In eval mode the same features give the same logits, whatever was asked before."""
    head, features = _awake(record), _features(record, 4)
    with torch.no_grad():
        first = head(features)
        head(_features(record, 3, seed=9) * 5)
        torch.manual_seed(123)
        again = head(features)
    require(torch.equal(first, again), "in eval mode the same features give other logits the second time")


def judges_rows_alone(record: HeadRecord) -> None:
    """In eval mode a row's logits do not depend on the rows beside it."""
    head, features = _awake(record), _features(record, 5)
    with torch.no_grad():
        together = head(features)
        alone = torch.cat([head(features[row : row + 1]) for row in range(len(features))])
    worst = float((together - alone).abs().max())
    require(
        torch.allclose(together, alone, atol=1e-4, rtol=1e-4), f"a row alone gets logits that differ by {worst:.3g}"
    )


def survives_saving(record: HeadRecord) -> None:
    """The tensors of `state_dict` hold all of it: loaded into another build they give the same logits."""
    head, features = _awake(record), _features(record, 4)
    state = head.state_dict()
    strange = [name for name, value in state.items() if not isinstance(value, Tensor)]
    require(not strange, f"a run keeps tensors only, and these are none: {', '.join(strange)}")
    other = _build(record, seed=77).eval()
    other.load_state_dict({name: value.clone() for name, value in state.items()})
    with torch.no_grad():
        require(torch.equal(head(features), other(features)), "with the same state another build gives other logits")


def moves(record: HeadRecord) -> None:
    """`.to(dtype)` moves all of it: logits follow the features to float64 and bfloat16."""
    head, features = _awake(record), _features(record, 4)
    with torch.no_grad():
        usual = head(features)
        for dtype in (torch.float64, torch.bfloat16):
            moved = features.to(dtype)
            found = copy.deepcopy(head).to(dtype)(moved)
            _require_logits(found, 4, OUTPUTS, moved)
            if dtype is torch.float64:
                worst = float((found - usual).abs().max())
                require(worst < 1e-3, f"in float64 the logits differ by {worst:.3g} from those in float32")


def begins_by_seed(record: HeadRecord) -> None:
    """The same seed of torch gives the same initial weights."""
    one, two = _build(record, seed=5).state_dict(), _build(record, seed=5).state_dict()
    other = [name for name, value in one.items() if fingerprint(value) != fingerprint(two.get(name))]
    require(not other, f"with the same seed these begin with other values: {', '.join(other)}")


def copies(record: HeadRecord) -> None:
    """A deep copy gives the same logits and shares nothing with the original."""
    head, features = _awake(record), _features(record, 4)
    twin = copy.deepcopy(head)
    with torch.no_grad():
        before = head(features)
        require(torch.equal(before, twin(features)), "a deep copy gives other logits")
        for parameter in twin.parameters():
            parameter.mul_(-2.0).add_(1.0)
        require(torch.equal(before, head(features)), "a change of a deep copy changes the original")


def leaves_features(record: HeadRecord) -> None:
    """The features given are not written to: they are cached, and every epoch reads them again."""
    head, features = _build(record), _features(record, 4)
    before = features.clone()
    for mode in (True, False):
        head.train(mode)(features)
        require(torch.equal(before, features), f"{'training' if mode else 'evaluation'} changes the features given")


def leaves_settings(record: HeadRecord) -> None:
    """Building and running change no setting of the process."""
    random.seed(8191)  # an odd one: whoever sets the state to a usual seed is to be seen
    np.random.seed(8191)  # noqa: NPY002
    with sheltered() as before:
        head = _build(record)
        for mode in (True, False):
            head.train(mode)(_features(record, 2))
        changed = changed_since(before)
    require(not changed, f"it changes {', '.join(changed)}")


CHECKS: dict[str, Callable[[HeadRecord], None]] = {
    "it-builds-for-any-width-and-number-of-outputs": builds,
    "features-become-one-logit-a-class": gives_logits,
    "it-trains-on-two-rows": trains_on_two_rows,
    "a-finite-gradient-reaches-each-parameter": gets_gradients,
    "evaluation-gives-the-same-each-time": evaluates_alike,
    "each-row-is-judged-alone": judges_rows_alone,
    "its-state-holds-all-that-it-learned": survives_saving,
    "it-moves-to-other-number-types": moves,
    "one-seed-gives-one-beginning": begins_by_seed,
    "a-deep-copy-is-a-head-of-its-own": copies,
    "the-features-given-stay-as-they-are": leaves_features,
    "settings-of-the-process-stay-as-they-are": leaves_settings,
}
