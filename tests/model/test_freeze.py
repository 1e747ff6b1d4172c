"""Frozen means frozen, whoever calls `.train()`, copies the model or wraps it."""

import copy
import pickle

import pytest
import timm
import torch
import torchvision
from torch import nn

import zoo
from zoo.errors import IntegrityError, OptionError, ZooError
from zoo.model.freeze import StaysInEval, digest_tensor


def small():
    torch.manual_seed(0)
    return timm.create_model("test_efficientnet", num_classes=3, drop_path_rate=0.5, drop_rate=0.0)


def train_a_little(model, steps=3, size=64, weight_decay=0.1):
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=weight_decay)
    for _ in range(steps):
        model.train()
        images = torch.randn(4, 3, size, size, generator=generator)
        loss = nn.functional.cross_entropy(model(images), torch.tensor([0, 1, 2, 0]))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()


def snapshot(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def moved(before, model):
    return {name for name, tensor in model.state_dict().items() if not torch.equal(before[name], tensor)}


def test_head_leaves_exactly_the_classifier_to_train():
    model = small()
    frozen = zoo.freeze(model, "head")
    assert set(frozen.trainable) == {"classifier.weight", "classifier.bias"}
    before = snapshot(model)
    train_a_little(model)
    assert moved(before, model) == {"classifier.weight", "classifier.bias"}
    assert frozen.verify() == len(frozen.digests) == len(before) - 2


def test_last_stage_trains_and_everything_before_it_stands_still():
    model = small()
    frozen = zoo.freeze(model, "last(1)", batchnorm="train")
    before = snapshot(model)
    train_a_little(model)
    changed = moved(before, model)
    frozen.verify()
    assert changed.isdisjoint(frozen.digests)
    assert set(frozen.trainable) <= changed
    # The stage that trains updates its own BatchNorm statistics; the frozen ones keep theirs.
    assert any(name.endswith("running_mean") for name in changed)


@pytest.mark.parametrize("policy", ["last(1)", "none", "norm"])
def test_statistics_stand_still_in_stages_that_train_unless_told_otherwise(policy):
    model = zoo.load("timm/test_efficientnet", num_classes=3, weights="none")
    frozen = zoo.freeze(model, policy, batchnorm="frozen")
    before = snapshot(model)
    train_a_little(model, size=160)
    changed = moved(before, model)
    assert changed & {name for name, _ in model.named_parameters()} == set(frozen.trainable)
    assert changed.isdisjoint(dict(model.named_buffers()))
    assert frozen.verify() == len(frozen.digests) > len(frozen.frozen)
    layer = next(part for part in model.modules() if isinstance(part, nn.BatchNorm2d))
    with torch.no_grad():
        layer.running_mean += 1
    with pytest.raises(IntegrityError, match="running_mean"):
        frozen.verify()


def test_statistics_of_random_weights_move_by_default():
    model = zoo.load("timm/test_efficientnet", num_classes=3, weights="none")
    assert zoo.freeze(model, "none").batchnorm == "train"
    assert zoo.freeze(small(), "none").batchnorm == "train"
    assert zoo.freeze(small(), "last(1)").batchnorm == "frozen"


def test_none_trains_everything():
    model = small()
    frozen = zoo.freeze(model, "none")
    assert frozen.frozen == ()
    before = snapshot(model)
    train_a_little(model)
    assert moved(before, model) == set(before)


@pytest.mark.parametrize(
    "policy",
    ["depth(0.5)", "norm", "bias", "norm@last(2)", "bias@depth(0.7)", "until(stage3)", r'regex("blocks\.1.*conv")'],
)
def test_what_a_policy_selects_moves_and_nothing_else_does(policy):
    model = small()
    frozen = zoo.freeze(model, policy)
    before = snapshot(model)
    train_a_little(model)
    changed = moved(before, model)
    frozen.verify()
    parameters = {name for name, _ in model.named_parameters()}
    assert changed & parameters == set(frozen.trainable)
    assert {"classifier.weight", "classifier.bias"} < set(frozen.trainable) < parameters
    assert all(model.get_parameter(name).grad is None for name in frozen.frozen)


def test_frozen_layers_stay_in_eval_after_train_on_any_ancestor():
    model = small()
    zoo.freeze(model, "last(1)")
    wrapper = nn.Sequential(nn.Identity(), model)
    wrapper.train()
    assert model.training
    assert model.blocks[-1].training
    frozen_norms = [m for m in model.blocks[0].modules() if isinstance(m, nn.BatchNorm2d)]
    assert frozen_norms
    assert not any(norm.training for norm in frozen_norms)
    model.blocks[0].train()
    assert not model.blocks[0].training


def test_dropout_and_stochastic_depth_are_off_in_the_frozen_part():
    model = small()
    zoo.freeze(model, "head")
    model.train()
    images = torch.randn(2, 3, 64, 64)
    first = model.forward_features(images)
    assert torch.equal(first, model.forward_features(images))
    assert not first.requires_grad


def test_a_dropout_between_frozen_layers_is_frozen_with_them():
    model = torchvision.models.vgg11(num_classes=2)
    zoo.freeze(model, "head")
    model.train()
    assert [type(m).__name__ for m in model.modules() if isinstance(m, nn.Dropout)] == ["Dropout", "Dropout"]
    assert not any(m.training for m in model.modules() if isinstance(m, nn.Dropout))


def test_isinstance_state_dict_and_repr_are_as_before():
    model = small()
    keys, text = list(model.state_dict()), repr(model)
    zoo.freeze(model, "head")
    assert list(model.state_dict()) == keys
    assert repr(model) == text
    assert isinstance(model.bn1, nn.BatchNorm2d)


@pytest.mark.parametrize("through", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_is_frozen_too(through):
    model = small()
    zoo.freeze(model, "head")
    again = through(model)
    again.train()
    assert isinstance(again.blocks, StaysInEval)
    assert not any(m.training for m in again.blocks.modules())
    before = snapshot(again)
    train_a_little(again)
    assert moved(before, again) == {"classifier.weight", "classifier.bias"}


def test_another_policy_replaces_the_first():
    model = small()
    zoo.freeze(model, "head")
    zoo.freeze(model, "none")
    model.train()
    assert all(m.training for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())


def test_gradients_from_before_are_gone():
    model = small()
    nn.functional.cross_entropy(model(torch.randn(2, 3, 64, 64)), torch.tensor([0, 1])).backward()
    zoo.freeze(model, "head")
    assert model.conv_stem.weight.grad is None
    assert model.classifier.weight.grad is not None


def test_verify_names_what_moved():
    model = small()
    frozen = zoo.freeze(model, "head")
    model.bn1.running_mean.add_(1.0)
    with pytest.raises(IntegrityError, match=r"1 frozen tensors changed under policy head: bn1.running_mean"):
        frozen.verify()


def test_what_a_network_makes_anew_for_images_of_another_size_has_not_moved():
    torch.manual_seed(0)
    model = zoo.load("timm/convit_tiny", weights="none", num_classes=3)
    frozen = zoo.freeze(model, "last(1)")
    assert "backbone.blocks.0.attn.rel_indices" in frozen.digests
    model(torch.randn(1, 3, 224, 224))  # its distances between patches are made in the first pass
    compared = frozen.verify()
    assert compared < len(frozen.digests)
    again = zoo.freeze(model, "last(1)")
    assert again.verify() == len(again.digests)
    model.backbone.blocks[0].attn.rel_indices.add_(1.0)
    with pytest.raises(IntegrityError, match=r"1 frozen tensors changed.*blocks.0.attn.rel_indices"):
        again.verify()


def test_more_stages_than_there_are_is_refused_with_their_names():
    with pytest.raises(OptionError, match=r"has \d+ stages \(stem, .*\), not 99"):
        zoo.freeze(small(), "last(99)")


def test_a_network_that_no_source_knows_is_refused():
    with pytest.raises(ZooError, match="no installed source knows a Linear"):
        zoo.freeze(nn.Linear(2, 2), "head")


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_scripted_part_is_refused():
    model = small()
    model.bn1 = torch.jit.trace(model.bn1.eval(), torch.randn(1, model.bn1.num_features, 4, 4), check_trace=False)
    with pytest.raises(ZooError, match="a scripted module"):
        zoo.freeze(model, "head")


def test_a_digest_sees_values_dtype_and_shape():
    value = torch.arange(4.0)
    others = [value + 1, value.double(), value.reshape(2, 2), value.to(torch.bfloat16)]
    assert digest_tensor(value) == digest_tensor(value.clone())
    assert len({digest_tensor(tensor) for tensor in [value, *others]}) == 5


@pytest.mark.parametrize("policy", ["head", "last(1)", "last(2)"])
@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/test_vit", "timm/test_convnext", "timm/test_resnet"])
def test_a_loaded_model_keeps_its_frozen_part_and_moves_the_rest(name, policy):
    model = zoo.load(name, num_classes=3, weights="none", freeze=policy)
    frozen = zoo.freeze(model, policy)
    before = snapshot(model)
    # The head starts at zero, so the backbone gets its first gradient in the second step.
    train_a_little(model, size=model.view.input.size[0])
    frozen.verify()
    still = [name for name in frozen.trainable if torch.equal(before[name], model.state_dict()[name])]
    assert still == []


def test_under_compile_the_frozen_part_stands_still_too():
    model = small()
    frozen = zoo.freeze(model, "last(1)")
    compiled = torch.compile(model, backend="eager")
    train_a_little(compiled, steps=2)
    frozen.verify()


def test_a_record_prints_in_one_short_line():
    frozen = zoo.freeze(small(), "last(1)")
    assert len(repr(frozen)) < 160
    assert repr(frozen).startswith("Frozen(policy='last(1)', stages trained: ")
    assert f"{len(frozen.frozen)} frozen" in repr(frozen)
