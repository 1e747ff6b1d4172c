"""Weights from a user's file into a network: everything fits, or the error says what does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from zoo.errors import WeightsError
from zoo.model.adapt import adapt_input, read_input
from zoo.model.checkpoint import Checkpoint, read_checkpoint, strip_prefixes
from zoo.model.states import with_versions
from zoo.specs import BackboneView

Convert = Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]]

# Buffers that follow from the network's shape or only count steps: some versions of a library save them, others do not.
_DERIVED = ("num_batches_tracked", "relative_position_index", "relative_coords_table", "attn_mask")
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How the tensors of a file match a network, its classifiers left out of account.

    Attributes:
        tensors: those that go into the network, by its names.
        missing: names in the network that the file lacks.
        unexpected: names in the file that the network lacks.
        differ: `name: file (shape), network (shape)`.
        kinds: `name: file dtype, network dtype`, where one holds numbers of another kind than the other.
        notes: what was allowed to be missing or left out.
    """

    tensors: Mapping[str, Tensor]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    differ: tuple[str, ...]
    kinds: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def problems(self) -> int:
        """Number of tensors that do not fit."""
        return len(self.missing) + len(self.unexpected) + len(self.differ) + len(self.kinds)


def load_weights(view: BackboneView, path: Path, convert: Convert | None = None) -> BackboneView:
    """Load a file into the network of `view`, in place.

    The classifier and auxiliary classifiers may be missing from the file or differ in shape; every other tensor of the
    network must be there, and every other tensor of the file must have its place. A finished run's file, or its folder,
    gives its backbone, and its input with it.

    Args:
        view: a network with random weights.
        path: a file of safetensors or of `torch.save`, or a run folder.
        convert: gives tensors of somebody else's checkpoint the names and shapes of the network; asked where the file
            does not fit as it is.

    Returns:
        The view with weights `file NAME` and notes of what was done.

    Raises:
        WeightsError: the file cannot be read, or does not fit; lists what is missing, unexpected and differs.
    """
    found = read_checkpoint(path)
    view = _as_in_the_run(view, found)
    wanted = view.module.state_dict()
    tensors, stripped = strip_prefixes(found.tensors, wanted)
    fit, how = _best_fit(view, tensors, convert)
    if fit.problems:
        raise WeightsError(_report(view, found, fit, how))
    if broken := _not_finite(fit.tensors, wanted):
        raise WeightsError(
            f"{found.path} holds NaN or infinite numbers in {len(broken)} tensors: {_some(broken)}; the training that "
            "it comes from diverged, or the file is damaged"
        )
    view.module.load_state_dict(with_versions(view.module, {**wanted, **fit.tensors}))
    source = view.name.partition("/")[0]
    own = "" if _is_run(found) else f"; images are prepared as for the weights that {source} offers first"
    said = f"weights from the file {found.path.name}, sha256 {found.digest}{own}"
    notes = (said, *found.notes, *stripped, *([how] if how else []), *fit.notes)
    return dataclasses.replace(
        view,
        weights=f"file {found.path.name}",
        # What a run was fine-tuned from binds what came of it; of any other file nobody says.
        licence=found.header.get("licence", "") if _is_run(found) else "",
        notes=tuple(dict.fromkeys((*view.notes, *notes))),
    )


def _not_finite(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors with NaN or infinite numbers, but for those where the network itself has some, as in masks."""
    return [name for name, tensor in tensors.items() if not _finite(tensor) and _finite(wanted[name])]


def _finite(tensor: Tensor) -> bool:
    return tensor.is_meta or not tensor.is_floating_point() or bool(tensor.float().isfinite().all())


def _is_run(found: Checkpoint) -> bool:
    return {"backbone", "preprocessing", "licence"} <= found.header.keys()


def _as_in_the_run(view: BackboneView, found: Checkpoint) -> BackboneView:
    """The view with the input of the run whose file this is; unchanged where it is no run's."""
    if not _is_run(found):
        return view
    spec = read_input(found.header["preprocessing"])
    view = adapt_input(view, size=spec.size, channels=spec.channels)
    note = f"a run of {found.header['backbone']}; images are prepared as in that run"
    return dataclasses.replace(view, input=spec, notes=(*view.notes, note))


def _best_fit(view: BackboneView, tensors: dict[str, Tensor], convert: Convert | None) -> tuple[Fit, str]:
    """The better fit of the tensors as they are and as converted, and what is to be said of the conversion."""
    plain = _fit(view, tensors)
    if not plain.problems or convert is None:
        return plain, ""
    source = view.name.partition("/")[0]
    try:
        converted = _fit(view, convert(view.module, dict(tensors)))
    except Exception as error:  # a converter meets tensors of which its author knew nothing
        return plain, f"{source} could not convert it ({type(error).__name__}: {error})"
    if converted.problems < plain.problems:
        return converted, f"names and shapes were converted by {source}"
    return plain, ""


def _fit(view: BackboneView, tensors: Mapping[str, Tensor]) -> Fit:
    wanted = view.module.state_dict()
    kept, notes = _without_other_classifiers(view, wanted, tensors)
    computed = {name for name, _ in view.module.named_buffers()} - wanted.keys()
    skipped = [name for name in kept if name not in wanted and (name in computed or name.endswith(_DERIVED))]
    kept = {name: tensor for name, tensor in kept.items() if name not in skipped}
    heads = (*view.classifier, *view.auxiliary)
    absent = [name for name in wanted if name not in kept and not _below(name, view) and name not in heads]
    own = [name for name in absent if name.endswith(_DERIVED)]
    if skipped:
        notes.append(f"{len(skipped)} tensors that the network computes itself were left out, such as {skipped[0]}")
    if own:
        notes.append(f"{len(own)} tensors that are not in the file keep the network's own value, such as {own[0]}")
    differ = [name for name in kept if name in wanted and kept[name].shape != wanted[name].shape]
    return Fit(
        tensors=kept,
        missing=tuple(name for name in absent if name not in own),
        unexpected=tuple(name for name in kept if name not in wanted),
        differ=tuple(f"{name}: file {tuple(kept[name].shape)}, network {tuple(wanted[name].shape)}" for name in differ),
        kinds=tuple(
            f"{name}: file {kept[name].dtype}, network {wanted[name].dtype}"
            for name in kept
            if name in wanted and name not in differ and _kind(kept[name]) != _kind(wanted[name])
        ),
        notes=tuple(notes),
    )


def _kind(tensor: Tensor) -> str:
    """Which numbers go into one another without loss of sense: any floats, any whole numbers."""
    return "complex" if tensor.is_complex() else "float" if tensor.is_floating_point() else "whole"


def _below(name: str, view: BackboneView) -> bool:
    return name.startswith(tuple(f"{path}." for path in (*view.classifier_modules, *view.auxiliary_modules)))


def _without_other_classifiers(
    view: BackboneView, wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors without those of classifiers that are not the network's own, and what was left out."""
    notes: list[str] = []
    dropped: set[str] = set()
    for path in (*view.classifier_modules, *view.auxiliary_modules):
        theirs = {name: tuple(tensor.shape) for name, tensor in tensors.items() if name.startswith(f"{path}.")}
        ours = {name: tuple(tensor.shape) for name, tensor in wanted.items() if name.startswith(f"{path}.")}
        if theirs != ours:
            dropped |= theirs.keys()
            held = ", ".join(f"{name} {shape}" for name, shape in list(theirs.items())[:2]) or "nothing"
            notes.append(f"the classifier {path} stays random: the file holds {held} for it")
    return {name: tensor for name, tensor in tensors.items() if name not in dropped}, notes


def _report(view: BackboneView, found: Checkpoint, fit: Fit, how: str) -> str:
    parts = [
        f"{len(names)} {what}: {_some(names)}"
        for what, names in (
            ("missing", fit.missing),
            ("unexpected", fit.unexpected),
            ("of another shape", fit.differ),
            ("of another kind", fit.kinds),
        )
        if names
    ]
    run = f"; it is a run of {found.header['backbone']}" if "backbone" in found.header else ""
    after = f" ({how})" if how else ""
    return f"{found.path} does not fit {view.name}{after}{run}. Tensors {'. '.join(parts)}"


def _some(names: Sequence[str]) -> str:
    return "; ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
