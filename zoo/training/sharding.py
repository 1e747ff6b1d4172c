"""What trains, divided among the processes: weights, gradients and the optimiser's memory, by torch's FSDP2.

Each process holds some rows of every tensor that trains. The weights of a block are gathered from all while it computes
and let go of afterwards, gradients are summed to the rows that each process holds (Rajbhandari et al. 2020, "ZeRO";
Zhao et al. 2023, "PyTorch FSDP"). What is frozen stays whole in every process: its bits are checked, and it needs
neither gradients nor memory of an optimiser.

`fully_shard` replaces parameters for good, and FSDP2 has no way back. So for each interval of a timeline, whose
trainable part is another, a twin of the network is divided, and what it learned goes back into the network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from zoo.errors import ZooError
from zoo.features.calls import modes_kept
from zoo.group import Group
from zoo.model.network import FineTuneModel
from zoo.specs import block_modules
from zoo.training.optimiser import OptimiserChoice
from zoo.training.shards import divided_as, is_divided, whole
from zoo.training.shared import Suffix, SuffixModule


class Divided:
    """A suffix whose trainable tensors are divided; see `zoo.training.shared.Shared`.

    Made by all processes together. From then on the parameters of `model` that train are others, divided ones.

    Args:
        model: a twin of the network, see `twin_of`.
        suffix: goes through `model`.
        units: paths in its backbone of what is gathered at once, see `units_of`; the rest is gathered together.
        group: the processes.
    """

    divided = True

    def __init__(self, model: FineTuneModel, suffix: Suffix, units: Iterable[str], group: Group) -> None:
        from torch.distributed.fsdp import fully_shard

        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.contiguous()  # rows can be told apart then
        standing = {parameter for parameter in model.parameters() if not parameter.requires_grad}
        options: dict[str, Any] = {"mesh": _mesh(group, model), "ignored_params": standing}
        for path in units:
            unit = model.backbone.get_submodule(path)
            unit.register_forward_hook(_without_views)
            fully_shard(unit, reshard_after_forward=True, **options)
        # The heads, whose penalty is computed between the two passes, stay gathered from the one to the other.
        self._module: Any = fully_shard(SuffixModule(model, suffix), reshard_after_forward=False, **options)

    def __call__(self, inputs: tuple[Tensor, ...], covariates: Tensor | None) -> dict[str, Tensor]:
        """Logits by task; every process calls this as often as the others."""
        logits: dict[str, Tensor] = self._module(inputs, covariates)
        if not torch.is_grad_enabled():
            self._module.reshard()  # no backward pass will do so
        return logits

    def apart(self) -> AbstractContextManager[None]:
        """Nothing: gradients that are kept apart would have to be whole, and so they are summed batch by batch."""
        return nullcontext()


def _mesh(group: Group, model: nn.Module) -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(next(model.parameters()).device.type, (group.size,))


def _without_views(module: nn.Module, given: Any, output: Any) -> Any:
    """What a block gives, in memory of its own: behind a view that is written into FSDP2 would miss the gradients."""
    del module, given
    if not torch.is_grad_enabled():
        return output
    return tree_map_only(Tensor, lambda own: own if own._base is None else own.clone(), output)  # noqa: SLF001


def twin_of(model: FineTuneModel) -> FineTuneModel:
    """A model with modules of its own and the very parameters and buffers of `model`."""
    model.train()  # some networks let go then of what they keep in eval mode with the graph that made it
    kept = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    backbone, heads = copy.deepcopy((model.backbone, model.heads), kept)
    return FineTuneModel(replace(model.view, module=backbone), heads, model.kind)


@torch.no_grad()
def units_of(model: FineTuneModel) -> list[str]:
    """Paths in the backbone of the blocks that train and whose parameters nothing reads but they themselves.

    Found by watching a forward pass: what others read must be gathered for longer than the block computes.
    """
    view = model.view
    blocks = {path: view.module.get_submodule(path) for path in block_modules(view)}
    blocks = {path: part for path, part in blocks.items() if any(own.requires_grad for own in part.parameters())}
    owners: dict[int, str] = {}
    outside: set[str] = set()
    for name, parameter in view.module.named_parameters(remove_duplicate=False):
        block = next((path for path in blocks if name.startswith(f"{path}.")), "")
        if owners.setdefault(id(parameter), block) != block:
            outside |= {owners[id(parameter)], block}
    device = next(model.parameters()).device
    images = torch.zeros((2, view.input.channels, *view.input.size), device=device)
    with modes_kept(model):
        model.eval()
        called = _watch(lambda: model.features(images), blocks, owners, outside)
    return [path for path in blocks if path in called - outside]


def _watch(
    run: Callable[[], object], blocks: Mapping[str, nn.Module], owners: Mapping[int, str], outside: set[str]
) -> set[str]:
    """Which blocks `run` calls; those whose parameters it reads at another time join `outside`."""
    called: set[str] = set()
    inside: set[str] = set()
    handles = []
    for path, part in blocks.items():

        def enter(part: nn.Module, given: Any, path: str = path) -> None:
            del part, given
            called.add(path)
            inside.add(path)

        def leave(part: nn.Module, given: Any, output: Any, path: str = path) -> None:
            del part, given, output
            inside.discard(path)

        handles += [part.register_forward_pre_hook(enter), part.register_forward_hook(leave)]
    try:
        with _Reads(owners, inside, outside):
            run()
    finally:
        for handle in handles:
            handle.remove()
    return called


class _Reads(TorchFunctionMode):
    """Notes blocks whose parameters are used while the block is not `inside`."""

    FREE = frozenset({Tensor.dtype.__get__, Tensor.device.__get__, Tensor.shape.__get__, Tensor.ndim.__get__})  # type: ignore[attr-defined]
    """What may be asked of a tensor whose rows are elsewhere."""

    def __init__(self, owners: Mapping[int, str], inside: Collection[str], outside: set[str]) -> None:
        super().__init__()
        self._owners, self._inside, self._outside = owners, inside, outside

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in self.FREE:
            blocks = {self._owners.get(id(leaf), "") for leaf in tree_leaves((args, kwargs))}
            self._outside |= {block for block in blocks if block and block not in self._inside}
        return func(*args, **kwargs)


@contextmanager
def lent(model: FineTuneModel, twin: FineTuneModel, optimiser: torch.optim.Optimizer) -> Iterator[None]:
    """Inside, the divided parameters of `twin` are the optimiser's, and `model` holds nothing of them.

    Behind, `model` has them whole, with what was learned, in every process. The optimiser's memory stays divided, and
    is found again when the parameter is divided for the next time.
    """
    divided = dict(twin.named_parameters())
    pairs = [(own, divided[name]) for name, own in model.named_parameters() if is_divided(divided[name])]
    _exchange(optimiser, pairs)
    for own, _ in pairs:
        own.data = own.data.new_empty(0)
    yield
    with torch.no_grad():
        for own, part in pairs:
            own.data = whole(part.detach())
        theirs = dict(twin.named_buffers())
        for name, buffer in model.named_buffers():
            buffer.copy_(theirs[name])  # some networks put a new tensor in a buffer's place
    _exchange(optimiser, [(part, own) for own, part in pairs])
    model.eval()  # as validation left the twin


def _exchange(optimiser: torch.optim.Optimizer, pairs: Iterable[tuple[nn.Parameter, nn.Parameter]]) -> None:
    """Put the second parameter of each pair in the place of the first, with what the optimiser remembers of it."""
    places = {id(old): new for old, new in pairs}
    for group in optimiser.param_groups:
        group["params"] = [places.get(id(own), own) for own in group["params"]]
    for old, new in pairs:
        if old in optimiser.state:
            held = optimiser.state.pop(old)
            optimiser.state[new] = {
                key: divided_as(new, value) if isinstance(value, Tensor) and value.shape == new.shape else value
                for key, value in held.items()
            }


def refuse_undivided(model: FineTuneModel, names: Collection[str], choice: OptimiserChoice, group: Group) -> None:
    """Refuse what cannot be divided, before anything is computed; every process asks.

    Args:
        model: the network.
        names: of the backbone's parameters that train at some time.
        choice: of the optimiser.
        group: the processes.

    Raises:
        ZooError: a parameter is a single number without rows, or the optimiser does not step on divided tensors.
    """
    heads = {f"heads.{name}" for name, _ in model.heads.named_parameters()}
    training = {f"backbone.{name}" for name in names} | heads
    single = [name for name, own in model.named_parameters() if name in training and own.ndim == 0]
    if single:
        raise ZooError(
            f"--shard fsdp gives each process some rows of each tensor, and {single[0]} is a single number, without "
            "rows; leave out --shard"
        )
    why = _why_not(choice, _mesh(group, model), 64 * group.size + 1)
    if why:
        raise ZooError(
            f"--optimiser {choice.call.name} does not step on tensors that --shard fsdp has divided ({why}); use "
            "adamw, adam or sgd, or leave out --shard"
        )


def _why_not(choice: OptimiserChoice, mesh: Any, rows: int) -> str:
    """Why an optimiser does not step on tensors of so many rows that are divided; empty where it does.

    Small ones would not do: some optimisers keep a memory of fewer numbers for large matrices.
    """
    from torch.distributed.tensor import Shard, distribute_tensor

    parameters = []
    for shape in ((rows, 8, 3, 3), (rows, 64), (rows,)):
        ones = torch.ones(shape, device=mesh.device_type)
        parameter = nn.Parameter(distribute_tensor(ones, mesh, [Shard(0)], src_data_rank=None))
        parameter.grad = torch.ones_like(parameter)
        parameters.append(parameter)
    optimiser = choice.make([{"params": parameters, "lr": 1e-3, "weight_decay": 0.01}])
    try:
        optimiser.step()
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    # What has a parameter's shape is divided as it is, and a count is the same everywhere.
    for own, memory in optimiser.state.items():
        for name, held in memory.items():
            like = is_divided(held) and held.shape == own.shape
            if isinstance(held, Tensor) and held.numel() > 1 and not like:
                return f"its {name} has not the shape of the parameter"
    return ""
