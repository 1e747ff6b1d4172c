"""A network in two parts gives what the whole gives, and one that cannot be divided is refused with the reason."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.features.calls import CutError
from zoo.features.cut import capture, plan_cut
from zoo.features.suffix import Suffix, check_cut
from zoo.model.adapt import adapt_input
from zoo.model.freeze import freeze_parts
from zoo.model.load import strip
from zoo.model.view import build_view
from zoo.specs import parse_policy

SIZE = 8
WIDE = 3 * SIZE * SIZE


def run(module, images):
    return module(images)


def images(count=4, size=SIZE, seed=0):
    return torch.randn((count, 3, size, size), generator=torch.Generator().manual_seed(seed))


def freeze(module, *trained):
    """Only modules and parameters of these names train; the others stay in eval mode, as a frozen part does."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.startswith(trained))
    module.train()
    for name, part in module.named_children():
        if name not in trained:
            part.train = lambda mode=True, part=part: part.__class__.train(part, False)
            part.train()
    return frozenset(name for name, parameter in module.named_parameters() if parameter.requires_grad)


def cut_of(module, *trained, size=SIZE):
    """The cut before what trains, checked."""
    cut = plan_cut(module, run, freeze(module, *trained), images(3, size))
    check_cut(cut, module, run, images(2, size, seed=1))
    return cut


def step(module, call):
    """Features and gradients in training mode, under one seed."""
    module.train()
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    torch.manual_seed(5)
    features = call()
    return [features.detach(), *torch.autograd.grad(features.square().sum(), parameters, allow_unused=True)]


def same(whole, parts):
    return all(a is b or torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(whole, parts, strict=True))


def halves(module, cut, given):
    """The features by way of the rows that cross."""
    with torch.no_grad():
        module.eval()
        rows = capture(cut, module, run, given)
    with Suffix(cut, module, run, tuple(given.shape[1:])) as suffix:
        return step(module, lambda: suffix(rows))


class Net(nn.Module):
    """A frozen stem and a tail that trains."""

    def __init__(self, tail=None):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Linear(WIDE, 8)
        self.tail = tail or nn.Linear(8, 4)

    def forward(self, given):
        return self.tail(self.stem(given.flatten(1)))


class Skips(Net):
    """What the stem gives is read at two places, and so is what lies before it."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.deep = nn.Linear(WIDE, 6), nn.Linear(6, 8), nn.Linear(6, 4)

    def forward(self, given):
        early = self.first(given.flatten(1))
        return self.tail(self.second(early)) + self.deep(early)


class Windows(nn.Module):
    """Windows of all images in one dimension, those of an image side by side."""

    def forward(self, given):
        count, channels, height, width = given.shape
        parts = given.reshape(count, channels, 2, height // 2, 2, width // 2).permute(0, 2, 4, 3, 5, 1)
        return parts.reshape(count * 4, height * width // 4, channels)


class Windowed(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.windows, self.tail = nn.Conv2d(3, 6, 1), Windows(), nn.Linear(6, 4)

    def forward(self, given):
        return self.tail(self.windows(self.stem(given))).reshape(len(given), -1, 4).mean(1)


class Sequence(nn.Module):
    """Tokens before images, as recurrent networks and `nn.MultiheadAttention` take them: (N, B, C)."""

    def forward(self, given):
        return given.flatten(2).permute(2, 0, 1)


class TokensFirst(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.turn, self.tail = nn.Conv2d(3, 6, 1), Sequence(), nn.MultiheadAttention(6, 2)

    def forward(self, given):
        tokens = self.turn(self.stem(given))
        return self.tail(tokens, tokens, tokens)[0].mean(0)


class Table(nn.Module):
    """A rotary table: it depends on the size of the images alone, and counts how often it is made."""

    def __init__(self):
        super().__init__()
        self.made = 0

    def forward(self, tokens):
        self.made += 1
        return torch.arange(tokens.shape[1], device=tokens.device).float().unsqueeze(1).sin()


class Rotary(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.table, self.block, self.tail = nn.Linear(SIZE, 6), Table(), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, given):
        tokens = self.stem(given.flatten(1, 2))
        table = self.table(tokens)
        return self.tail(self.block(tokens * table) + table).mean(1)


class Functional(nn.Module):
    """Dropout written as a function, and a whole path that is dropped."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, given):
        kept = F.dropout(given, 0.5, self.training)
        path = torch.rand(len(given), 1) < 0.5 if self.training else torch.ones(len(given), 1)
        return self.layer(kept) * path


class Told(nn.Module):
    """Gives a dictionary of maps with their height and width beside them."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, given):
        found = self.layer(given)
        return {"maps": (found, found[:, :2]), "size": tuple(found.shape[2:]), "unread": found.sum(1)}


class Dictionary(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.tail, self.side = Told(), nn.Linear(6, 4), nn.Linear(2, 4)

    def forward(self, given):
        found = self.stem(given)
        height, width = found["size"]
        first, second = found["maps"]
        return self.tail(first.sum((2, 3)) / (height * width)) + self.side(second.mean((2, 3)))


class Shared(nn.Module):
    """One normalisation and one activation on both sides, the activation in place."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm, self.act, self.tail = nn.Linear(WIDE, 8), nn.LayerNorm(8), nn.SiLU(True), nn.Linear(8, 8)

    def forward(self, given):
        return self.act(self.norm(self.tail(self.act(self.norm(self.stem(given.flatten(1)))))))


class InPlace(nn.Module):
    """An activation writes into what crosses, inside the part that trains and outside of every module."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.tail, self.act = (
            nn.Linear(WIDE, 8),
            nn.Sequential(nn.ReLU(True), nn.Linear(8, 8)),
            nn.SiLU(True),
        )

    def forward(self, given):
        kept = self.stem(given.flatten(1))
        return self.act(self.tail(kept)) + kept


class Rewritten(nn.Module):
    """What one frozen call gave is rewritten by another, and read behind both."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.tail, self.act = nn.Linear(WIDE, 8), nn.Linear(8, 8), nn.ReLU(inplace=True)

    def forward(self, given):
        kept = self.stem(given.flatten(1))
        return self.tail(self.act(kept)) + kept


@pytest.mark.parametrize(
    ("module", "trained", "names"),
    [
        (Net, ("tail",), ("stem",)),
        (Skips, ("tail", "deep"), ("first", "second")),
        (Windowed, ("tail",), ("windows",)),
        (TokensFirst, ("tail",), ("turn",)),
        (Rotary, ("tail",), ("block",)),
        (lambda: Net(Functional()), ("tail",), ("stem",)),
        (Dictionary, ("tail", "side"), ("stem", "stem[1]")),
        (Shared, ("tail",), ("act",)),
        (InPlace, ("tail",), ("stem",)),
    ],
    ids=["plain", "two-cross", "windows", "tokens-first", "rotary", "dropout", "dictionary", "shared", "in-place"],
)
def test_the_parts_train_as_the_whole_does(module, trained, names):
    network = module()
    cut = cut_of(network, *trained)
    given = images(6, seed=2)
    assert cut.names == names
    assert same(step(network, lambda: network(given)), halves(network, cut, given))


@pytest.mark.parametrize("module", [Windowed, TokensFirst])
def test_every_row_that_crosses_belongs_to_one_image(module):
    network = module()
    cut = cut_of(network, "tail")
    given = images(5)
    with torch.no_grad():
        (together,) = capture(cut, network, run, given)
        alone = torch.cat([capture(cut, network, run, each[None])[0] for each in given])
    assert tuple(together.shape) == (5, *cut.crossings[0].shape)
    assert torch.allclose(together, alone, atol=1e-6)
    assert cut.numbers == together[0].numel()


def test_a_constant_table_is_computed_where_it_is_used_and_does_not_cross():
    network = Rotary()
    cut = cut_of(network, "block", "tail")
    assert cut.names == ("stem",)
    rows = capture(cut, network, run, images(5))
    network.table.made = 0
    with Suffix(cut, network, run, (3, SIZE, SIZE)) as suffix:
        suffix(rows)
    assert network.table.made == 1


def test_dropout_and_dropped_paths_act_in_training_and_not_in_eval():
    network = Net(Functional())
    cut = cut_of(network, "tail")
    with torch.no_grad(), Suffix(cut, network, run, (3, SIZE, SIZE)) as suffix:
        network.eval()
        rows = (torch.ones(64, 8),)
        assert torch.equal(suffix(rows), suffix(rows))
        network.train()
        trained = suffix(rows)
        assert not torch.equal(trained, suffix(rows))
    assert 10 < int((trained == 0).all(1).sum()) < 54


def test_what_nobody_reads_does_not_cross():
    cut = cut_of(Dictionary(), "tail", "side")
    assert [each.place for each in cut.crossings] == [0, 1]


def test_the_frozen_part_goes_no_further_than_what_crosses():
    network = Net()
    cut = cut_of(network, "tail")

    def refuse(*_):
        raise AssertionError("the tail ran")

    network.tail.forward = refuse
    assert tuple(capture(cut, network, run, images())[0].shape) == (4, 8)


def test_the_suffix_computes_no_module_before_the_boundary():
    network = Net()
    cut = cut_of(network, "tail")
    with torch.no_grad():
        network.stem.weight.fill_(float("nan"))
    with Suffix(cut, network, run, (3, SIZE, SIZE)) as suffix:
        assert suffix((torch.ones(2, 8),)).isfinite().all()


def test_a_network_on_the_meta_device_is_cut_as_the_real_one():
    network = Skips()
    real = cut_of(network, "tail", "deep")
    with torch.device("meta"):
        planned = plan_cut(Skips(), run, freeze(Skips(), "tail", "deep"), torch.empty(3, 3, SIZE, SIZE))
    assert planned.crossings == real.crossings


@pytest.mark.parametrize(
    ("name", "size", "policy", "crosses"),
    [
        ("resnet18", 64, "last(1)", ("layer3",)),
        ("vit_tiny_patch16_224", 64, "last(2)", ("blocks.9",)),
        ("hrnet_w18_small", 64, "last(1)", ("stage3", "stage3[1]", "stage3[2]", "transition3.3")),
        ("xcit_nano_12_p16_224", 64, "last(1)", ("blocks.10",)),
    ],
)
def test_networks_of_timm_train_behind_their_cut_as_they_do_whole(name, size, policy, crosses):
    torch.manual_seed(0)
    view = strip(adapt_input(build_view(f"timm/{name}", "none"), size=size))
    view = dataclasses.replace(view, weights="fixed")
    parsed = parse_policy(policy)
    freeze_parts(view.module, view, parsed, digest=False)
    behind = view.stages.index(parsed.trainable_stages(view)[0])
    trainable = frozenset(parameter for stage in view.stages[behind:] for parameter in stage.parameters)

    def extract(module: nn.Module, given: Tensor) -> Tensor:
        return view.extract(module, given, "pooled")

    cut = plan_cut(view.module, extract, trainable, images(3, size))
    check_cut(cut, view.module, extract, images(2, size))
    assert cut.names == crosses
    given = images(4, size, seed=3)
    with torch.no_grad():
        rows = capture(cut, view.module, extract, given)
    with Suffix(cut, view.module, extract, (3, size, size)) as suffix:
        parts = step(view.module, lambda: suffix(rows))
    view.module.load_state_dict(view.module.state_dict())
    assert same(step(view.module, lambda: extract(view.module, given)), parts)


class ByCount(Net):
    """Another module for another number of images."""

    def __init__(self):
        super().__init__()
        self.even, self.odd = nn.Identity(), nn.Identity()

    def forward(self, given):
        return self.tail((self.odd if len(given) % 2 else self.even)(self.stem(given.flatten(1))))


class Reads(Net):
    """What trains reads the image beside what the stem gives."""

    def forward(self, given):
        return self.tail(self.stem(given.flatten(1))) + self.tail(given.flatten(1)[:, :8])


class Mean(nn.Module):
    def forward(self, given):
        return given.mean(0)


class Pooled(Net):
    """One vector for the whole batch."""

    def __init__(self):
        super().__init__()
        self.mean = Mean()

    def forward(self, given):
        return self.tail(self.mean(self.stem(given.flatten(1)))).expand(len(given), -1)


class Aside(Net):
    """The stem is computed, but the tail does not read it."""

    def forward(self, given):
        self.stem(given.flatten(1))
        return self.tail(torch.ones(len(given), 8))


class Nobody(Net):
    def forward(self, given):
        return self.stem(given.flatten(1))


@pytest.mark.parametrize(
    ("module", "trained", "said"),
    [
        (ByCount, ("tail",), "the network takes another path for another number of images"),
        (Reads, ("tail",), "what trains reads the image itself"),
        (Pooled, ("tail",), "what mean gives has no dimension that counts images"),
        (Aside, ("tail",), "nothing frozen reaches what trains"),
        (Nobody, ("tail",), "nothing trains that the features depend on"),
        (Net, ("stem", "tail"), "something trains before the first module that reads the image"),
    ],
)
def test_a_network_that_cannot_be_cut_says_why(module, trained, said):
    network = module()
    with pytest.raises(CutError, match=said):
        plan_cut(network, run, freeze(network, *trained), images(3))


class BatchStatistics(nn.Module):
    """Normalises by the images that happen to be there, in eval mode too."""

    def forward(self, given):
        return (given - given.mean(0)) / (given.std(0, unbiased=False) + 1)


class Neighbours(Net):
    def __init__(self):
        super().__init__()
        self.norm = BatchStatistics()

    def forward(self, given):
        return self.tail(self.norm(self.stem(given.flatten(1))))


class InnerWindows(nn.Module):
    def forward(self, given):
        return given.transpose(0, 1).flatten(0, 1)


class Interleaved(nn.Module):
    """Windows of all images in one dimension, those of an image far apart."""

    def __init__(self):
        super().__init__()
        self.stem, self.windows, self.tail = nn.Linear(SIZE, 6), InnerWindows(), nn.Linear(6, 4)

    def forward(self, given):
        return self.tail(self.windows(self.stem(given.flatten(1, 2)))).reshape(-1, len(given), 4).mean(0)


@pytest.mark.parametrize("module", [Neighbours, Interleaved])
def test_rows_that_depend_on_their_neighbours_are_refused(module):
    network = module()
    cut = plan_cut(network, run, freeze(network, "tail"), images(3))
    with pytest.raises(CutError, match="what crosses for one image depends on the others in its batch"):
        check_cut(cut, network, run, images(2))


class Hidden(Net):
    """The tail reads pixels in a way that leaves no gradient."""

    def forward(self, given):
        return self.tail(self.stem(given.flatten(1))) * (given > 0).float().mean((1, 2, 3))[:, None]


class Noisy(nn.Module):
    def forward(self, given):
        return given + torch.randn_like(given) if self.training else given


class LiveNoise(Net):
    """A frozen module that was not put into eval mode."""

    def __init__(self):
        super().__init__()
        self.noise = Noisy()

    def forward(self, given):
        return self.tail(self.noise(self.stem(given.flatten(1))))


@pytest.mark.parametrize(("module", "mode"), [(Hidden, "eval"), (Rewritten, "eval"), (LiveNoise, "training")])
def test_parts_that_do_not_give_what_the_whole_gives_are_refused(module, mode):
    network = module()
    trainable = freeze(network, "tail", "noise")
    cut = plan_cut(network.eval(), run, trainable, images(3))
    with pytest.raises(CutError, match=f"its two parts do not give what the whole gives in {mode} mode"):
        check_cut(cut, network, run, images(2))


def state(network):
    """Everything that an observer may have changed."""
    return (
        {name: tensor.clone() for name, tensor in network.state_dict().items()},
        [part.training for part in network.modules()],
        [parameter.requires_grad for parameter in network.parameters()],
        [parameter.grad for parameter in network.parameters()],
        [sorted(vars(part)) for part in network.modules()],
        [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in network.modules()],
    )


def as_before(before, after):
    return before[1:] == after[1:] and all(torch.equal(before[0][name], after[0][name]) for name in before[0])


class Moving(nn.Module):
    """A tail whose statistics move in training."""

    def __init__(self):
        super().__init__()
        self.norm, self.layer = nn.BatchNorm1d(8), nn.Linear(8, 4)

    def forward(self, given):
        return self.layer(self.norm(given))


@pytest.mark.parametrize("module", [lambda: Net(Moving()), ByCount, Reads, Pooled, Neighbours, LiveNoise])
def test_the_network_is_left_as_it_was_also_where_it_cannot_be_cut(module):
    network = module()
    trainable = freeze(network, "tail")
    before = state(network)
    with contextlib.suppress(CutError):
        cut = plan_cut(network, run, trainable, images(3))
        check_cut(cut, network, run, images(2))
    assert as_before(before, state(network))


def test_the_network_is_left_as_it_was_after_an_error_in_any_pass():
    network = Net(Moving())
    trainable = freeze(network, "tail")
    cut = plan_cut(network, run, trainable, images(3))
    before = state(network)
    for stop in range(1, 6):
        count = iter(range(1, 100))

        def failing(module, given, stop=stop, count=count):
            found = module(given)
            if next(count) == stop:
                raise ZeroDivisionError
            return found

        for call in (
            lambda failing=failing: plan_cut(network, failing, trainable, images(3)),
            lambda failing=failing: check_cut(cut, network, failing, images(2)),
        ):
            with contextlib.suppress(ZeroDivisionError):
                call()
            assert as_before(before, state(network))


def test_random_numbers_go_on_after_the_check_as_if_there_had_been_none():
    network = Net(Functional())
    cut = plan_cut(network, run, freeze(network, "tail"), images(3))
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    check_cut(cut, network, run, images(2))
    assert torch.equal(torch.rand(3), wanted)


def test_an_activation_in_place_at_the_start_of_the_suffix_is_no_reason_to_refuse():
    cut_of(Net(nn.Sequential(nn.SiLU(inplace=True), nn.Linear(8, 4))), "tail")


class StopGradient(nn.Module):
    """What crosses depends on what trains, by a way that autograd does not see."""

    def __init__(self):
        super().__init__()
        self.stem, self.gate, self.mix, self.tail = nn.Linear(WIDE, 8), nn.Linear(8, 8), nn.Identity(), nn.Linear(8, 4)

    def forward(self, given):
        early = self.stem(given.flatten(1))
        mixed = self.mix(early * self.gate(early).detach().sigmoid())
        return self.tail(mixed) + self.gate(early).sum(1, keepdim=True)


def test_rows_that_change_while_the_rest_trains_are_refused():
    with pytest.raises(CutError, match="what crosses changes when the rest trains"):
        cut_of(StopGradient(), "gate", "tail")


class Choice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(WIDE, 300)

    def forward(self, given):
        scores = self.layer(given.flatten(1))
        return scores[:, :8], scores.argsort(1)[:, :5], scores[:, :8] > 0


class Discrete(nn.Module):
    """Positions and a mask cross, as in networks that choose or drop tokens."""

    def __init__(self):
        super().__init__()
        self.stem, self.embedding, self.tail = Choice(), nn.Embedding(300, 8), nn.Linear(8, 4)

    def forward(self, given):
        found, positions, mask = self.stem(given)
        return self.tail(found.masked_fill(mask, 0) + self.embedding(positions).mean(1))


def test_positions_and_masks_are_not_kept_as_rows():
    with pytest.raises(CutError, match="stem gives int64 numbers, which rows do not keep"):
        cut_of(Discrete(), "embedding", "tail")


class Dead(Net):
    """Something frozen that nobody reads is written in place."""

    def __init__(self):
        super().__init__()
        self.side = nn.Linear(WIDE, 8)

    def forward(self, given):
        kept = self.stem(given.flatten(1))
        self.side(given.flatten(1)).relu_()
        return self.tail(kept)


def test_a_blank_may_be_written_in_place():
    assert cut_of(Dead(), "tail").names == ("stem",)


class Counts(nn.Module):
    """Counts its training steps in a buffer that is not saved."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)
        self.register_buffer("steps", torch.zeros(()), persistent=False)

    def forward(self, given):
        if self.training:
            self.steps += 1
        return self.layer(given)


def test_buffers_that_are_not_saved_are_put_back_too():
    network = Net(Counts())
    cut_of(network, "tail")
    assert int(network.tail.steps) == 0
