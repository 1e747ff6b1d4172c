"""What trains, divided by FSDP2; here in a group of one process, whose part is everything (two: tests/jobs)."""

import copy

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from zoo.errors import ZooError
from zoo.group import ALONE
from zoo.model.freeze import freeze_parts
from zoo.model.network import FineTuneModel, TaskHeads
from zoo.specs import BackboneView, FeatureKind, InputSpec, Task, parse_policy, partition
from zoo.training.optimiser import Rates, build_optimiser, parse_optimiser
from zoo.training.sharding import Divided, lent, refuse_undivided, twin_of, units_of
from zoo.training.shards import divided_as, is_divided, own_rows, put, whole

RATES = Rates(head=0.1, backbone=0.1, weight_decay=0.0, head_l2=0.0, warmup=0.0)


@pytest.fixture
def joined():
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Block(nn.Module):
    """Gives a view of what it computes."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, given):
        return self.layer(given).view(len(given), 4)


class Network(nn.Module):
    """Blocks one behind the other: plain, one whose weight is read outside, two that share theirs, one left out."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block() for _ in range(7)])
        self.blocks[3].layer.weight = self.blocks[2].layer.weight
        self.register_buffer("shift", torch.zeros(4))
        self.gain = nn.Parameter(torch.ones(4))

    def forward(self, images):
        found = images.mean((2, 3)) * self.gain + self.shift
        found = F.linear(found, self.blocks[0].layer.weight.to(self.blocks[1].layer.weight.dtype))
        for block in self.blocks[:-1]:
            found = block(found)
            found += 1.0  # written into the view
            found.relu_()
        return found


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = Network()
    parts = partition(network, [("gain", "stem", ["gain"]), ("blocks", "stage", ["blocks"])], classifier=[])
    view = BackboneView(
        name="test/network",
        module=network,
        features=(FeatureKind(name="pooled", width=4),),
        input=InputSpec(size=(8, 8), resize=8, mean=(0.0,) * 4, std=(1.0,) * 4),
        extract=lambda module, images, kind: module(images),
        reset_classifier=lambda module, outputs: None,
        **parts,
    )
    heads = TaskHeads((Task(name="label", classes=("a", "b")),), 4)
    nn.init.normal_(heads.heads[0].weight)
    model = FineTuneModel(view, heads, "pooled")
    freeze_parts(model, view, parse_policy("none"), "backbone.")
    return model


def loss_of(logits):
    return logits["label"].square().sum()


def gradients(model):
    return {name: whole(own.grad).clone() for name, own in model.named_parameters() if own.grad is not None}


def test_a_block_is_a_unit_where_nothing_else_reads_its_parameters(model):
    assert units_of(model) == ["blocks.1", "blocks.4", "blocks.5"]
    freeze_parts(model, model.view, parse_policy(r"regex('blocks\.[45].*')"), "backbone.")
    assert units_of(model) == ["blocks.4", "blocks.5"]
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_a_twin_has_the_same_tensors_in_modules_of_its_own(model):
    twin = twin_of(model)
    assert twin.view.module is twin.backbone is not model.backbone
    own, other = ({**dict(each.named_parameters()), **dict(each.named_buffers())} for each in (model, twin))
    assert own.keys() == other.keys()
    assert all(own[name] is other[name] for name in own)
    assert not {id(part) for part in model.modules()} & {id(part) for part in twin.modules()}


@pytest.mark.parametrize("policy", ["none", r"regex('blocks\.[45].*')"])
def test_gradients_are_those_of_the_plain_network(joined, model, policy):
    freeze_parts(model, model.view, parse_policy(policy), "backbone.")
    images = torch.randn(3, 4, 8, 8)
    plain = copy.deepcopy(model)
    (loss_of(plain.logits(images)) + plain.heads.penalty(0.5)).backward()
    twin = twin_of(model)
    units = units_of(twin)
    divided = Divided(twin, lambda inputs, covariates: twin.logits(inputs[0], covariates), units, ALONE)
    with torch.no_grad():
        before = divided((images,), None)["label"]
        assert all(is_divided(own) == own.requires_grad for own in twin.parameters())
    assert torch.equal(before, plain.logits(images)["label"])
    with divided.apart():
        (loss_of(divided((images,), None)) + twin.heads.penalty(0.5)).backward()
    one, two = gradients(plain), gradients(twin)
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[name], two[name], rtol=1e-6) for name in one)


def test_what_a_twin_learns_goes_back_and_the_optimiser_goes_on(joined, model):
    optimiser = build_optimiser(model, model.heads, RATES, parse_optimiser("adam"))
    plain = copy.deepcopy(model)
    other = build_optimiser(plain, plain.heads, RATES, parse_optimiser("adam"))
    images = torch.randn(3, 4, 8, 8)
    own = dict(model.named_parameters())
    for _ in range(2):  # two intervals
        twin = twin_of(model)
        divided = Divided(twin, lambda inputs, covariates: twin.logits(inputs[0], covariates), ["blocks.4"], ALONE)  # noqa: B023
        with lent(model, twin, optimiser):
            assert all(each.numel() == 0 for each in model.parameters())
            loss_of(divided((images,), None)).backward()
            optimiser.step()
            optimiser.zero_grad()
            assert all(
                is_divided(optimiser.state[each]["exp_avg"]) for each in twin.parameters() if each in optimiser.state
            )
            twin.backbone.shift = torch.ones(4)
        loss_of(plain.logits(images)).backward()
        other.step()
        other.zero_grad()
        plain.backbone.shift.fill_(1.0)
    assert {name: id(each) for name, each in model.named_parameters()} == {name: id(each) for name, each in own.items()}
    assert {id(each) for group in optimiser.param_groups for each in group["params"]} == {id(e) for e in own.values()}
    assert not model.training
    for name, tensor in plain.state_dict().items():
        assert torch.allclose(model.state_dict()[name], tensor, rtol=1e-5), name


def test_a_tensor_is_divided_and_whole_again(joined, model):
    twin = twin_of(model)
    Divided(twin, lambda inputs, covariates: twin.logits(inputs[0]), [], ALONE)
    part = twin.backbone.gain.detach()
    rows = torch.arange(4.0)
    put(part, rows)
    assert torch.equal(whole(part), rows)
    assert torch.equal(own_rows(part), rows)
    again = divided_as(part, 2 * rows)
    assert is_divided(again)
    assert divided_as(part, again) is again
    assert divided_as(rows, 2 * rows) is not part
    plain = torch.zeros(4)
    put(plain, rows)
    assert torch.equal(whole(plain), rows)


def test_a_number_without_rows_is_refused(model):
    model.backbone.factor = nn.Parameter(torch.ones(()))
    with pytest.raises(ZooError, match=r"backbone\.factor is a single number, without rows; leave out --shard"):
        refuse_undivided(model, {"factor"}, parse_optimiser("adamw"), ALONE)


@pytest.mark.parametrize(
    ("optimiser", "message"),
    [
        ("adafactorbv", r"--optimiser adafactorbv does not .* \(its exp_avg_sq_r has not the shape of the parameter\)"),
        ("novograd", r"--optimiser novograd does not step on tensors .* \(AssertionError\); use adamw, adam or sgd"),
    ],
)
def test_an_optimiser_that_does_not_step_on_divided_tensors_is_refused(joined, model, optimiser, message):
    with pytest.raises(ZooError, match=message):
        refuse_undivided(model, {"gain"}, parse_optimiser(optimiser), ALONE)


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "sgd", "lion", "lamb"])
def test_others_are_taken(joined, model, optimiser):
    refuse_undivided(model, {"gain"}, parse_optimiser(optimiser), ALONE)
