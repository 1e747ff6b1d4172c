"""Adapters in a network: put in without a change, trained alone, merged without a change."""

import pytest
import torch

import zoo
from zoo.errors import IntegrityError, ZooError
from zoo.features.boundary import find_boundary
from zoo.model import lora
from zoo.model.lora import merge_adapters
from zoo.model.view import build_view, check_view
from zoo.specs import adapter_size, block_depths, is_adapter, parse_policy

pytest.importorskip("peft")

MODELS = ("timm/test_vit", "timm/test_resnet", "timm/test_efficientnet", "timm/test_convnext")


def model_of(name, freeze="none"):
    torch.manual_seed(0)
    model = zoo.load(name, num_classes=3, weights="none", size=64 if "vit" not in name else None)
    with torch.no_grad():
        for path, own in model.named_parameters():
            if own.ndim == 1 and not path.endswith("bias"):
                own.fill_(1.0)  # timm begins some branches at zero or nearly so: no gradient would reach them
    if freeze != "none":
        zoo.freeze(model, freeze)
    return model


def images_of(model, count=4):
    spec = model.view.input
    return torch.randn(count, spec.channels, *spec.size, generator=torch.Generator().manual_seed(1))


def logits_of(model, images):
    model.eval()
    with torch.no_grad():
        return model(images)


def step(model, images, rate=0.05):
    """A few large steps of every parameter that trains."""
    model.train()
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=rate)
    for _ in range(3):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(images), torch.arange(len(images)) % 3).backward()
        optimiser.step()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("where", ["none", "last(1)"])
def test_adapters_train_alone_and_are_merged_to_the_same_network(name, where):
    model = model_of(name)
    images = images_of(model)
    plain = model.view
    keys, before = list(model.state_dict()), logits_of(model, images)
    frozen = zoo.freeze(model, f"lora(r=4)@{where}", batchnorm="frozen")
    check_view(model.view)
    assert model.view.stage_names == plain.stage_names
    assert torch.equal(logits_of(model, images), before)
    training = [name for name in frozen.trainable if name.startswith("backbone.")]
    assert training
    assert all(map(is_adapter, training))
    weights = [plain_of.removeprefix("backbone.") for plain_of in frozen.frozen if "base_layer.weight" in plain_of]
    sizes = sum(adapter_size(model.view.module.get_parameter(each), 4) for each in weights)
    assert sizes == sum(frozen.trained.values()) == model.adapters.numbers

    step(model, images)
    assert all(model.get_parameter(each).grad.abs().max() > 0 for each in training)
    assert frozen.verify() == len(frozen.digests) > 0

    trained = logits_of(model, images)
    assert not torch.allclose(trained, before, rtol=1e-3, atol=1e-4)
    assert merge_adapters(model) <= 1e-5
    assert model.view is plain
    check_view(model.view)
    assert list(model.state_dict()) == keys
    after = logits_of(model, images)
    assert float((after - trained).norm() / trained.norm()) <= 1e-5


@pytest.mark.parametrize(("name", "where"), [("timm/test_vit", "last(1)"), ("timm/test_resnet", "last(2)")])
def test_what_lies_before_the_adapters_is_a_prefix(name, where):
    model = model_of(name, f"lora(r=2)@{where}")
    pixels = torch.randint(0, 256, (3, 3, *model.view.input.size), dtype=torch.uint8)
    policy = parse_policy(f"lora(r=2)@{where}")
    boundary = find_boundary(model.view, model.kind, policy, pixels)
    assert boundary.cut is not None, boundary.why
    assert boundary.why.startswith("nothing trains before")
    assert not any(is_adapter(each) for each in set(dict(model.backbone.named_parameters())) - boundary.behind)


def test_adapters_in_the_first_layer_leave_no_prefix():
    model = model_of("timm/test_resnet", "lora(r=2)")
    pixels = torch.randint(0, 256, (3, 3, *model.view.input.size), dtype=torch.uint8)
    boundary = find_boundary(model.view, model.kind, parse_policy("lora(r=2)"), pixels)
    assert not boundary.there
    assert boundary.why == "policy lora(r=2) adapts the backbone from its first layer"


def test_adapters_are_as_deep_as_their_layers():
    model = model_of("timm/test_vit")
    plain = block_depths(model.view)
    zoo.freeze(model, "lora(r=2)")
    own = block_depths(model.view)
    adapters = [name for name in own if is_adapter(name)]
    assert adapters
    assert {own[name] - plain[f"{name.split('.lora_')[0]}.weight"] for name in adapters} == {0}


def test_dropout_acts_in_every_adapter_in_training():
    model = model_of("timm/test_vit", "lora(r=2, dropout=0.5)")
    model.train()
    drops = [part for path, part in model.named_modules() if path.endswith("lora_dropout.default")]
    assert drops
    assert all(part.training and part.p == 0.5 for part in drops)


def test_the_draw_is_a_function_of_the_seed():
    one, two, other = (model_of("timm/test_vit") for _ in range(3))
    for model, seed in ((one, 1), (two, 1), (other, 2)):
        lora.add_adapters(model, parse_policy("lora"), seed)
    drawn = [torch.cat([p.flatten() for n, p in m.named_parameters() if ".lora_A." in n]) for m in (one, two, other)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_layers_whose_weights_others_read_are_left_out():
    # torchvision's Swin multiplies by the weights of qkv and proj without calling these layers.
    torch.manual_seed(0)
    model = zoo.load("torchvision/swin_t", num_classes=2, weights="none", size=64)
    zoo.freeze(model, "lora(r=1)@last(1)")
    assert {path.rpartition("mlp")[1] for path in model.adapters.layers if ".attn." in path} == set()
    assert any(".mlp." in path for path in model.adapters.layers)
    with pytest.raises(ZooError, match="never compute by themselves"):
        zoo.freeze(
            zoo.load("torchvision/swin_t", num_classes=2, weights="none", size=64), 'lora@regex("attn.qkv.weight")'
        )


def test_other_adapters_are_refused_while_there_are_some():
    model = model_of("timm/test_vit", "lora(r=2)")
    assert zoo.freeze(model, "lora(r=2)").trainable
    with pytest.raises(ZooError, match="adapters already, of rank 2"):
        zoo.freeze(model, "lora(r=4)")
    with pytest.raises(ZooError, match="has adapters; merge"):
        lora.add_adapters(model, parse_policy("lora(r=2)"))


def test_a_network_of_ones_own_is_refused():
    with pytest.raises(ZooError, match=r"a model of zoo\.load"):
        zoo.freeze(build_view("timm/test_vit", "none").module, "lora")


def test_without_adapters_there_is_nothing_to_merge():
    with pytest.raises(ZooError, match="no adapters to merge"):
        merge_adapters(model_of("timm/test_vit"))


def test_a_policy_without_adapters_adds_none():
    with pytest.raises(ValueError, match="names no adapters"):
        lora.add_adapters(model_of("timm/test_vit"), parse_policy("norm"))


def test_a_merge_that_changes_the_logits_is_found(monkeypatch):
    model = model_of("timm/test_vit", "lora(r=2)")
    step(model, images_of(model))
    layer = type(model.view.module.get_submodule(model.adapters.layers[0]))
    monkeypatch.setattr(layer, "merge", lambda self, safe_merge: None)
    with pytest.raises(IntegrityError, match="merging the adapters changed the logits"):
        merge_adapters(model)


def test_without_peft_the_command_is_named(monkeypatch):
    monkeypatch.setattr(lora, "find_spec", lambda name: None)
    with pytest.raises(ZooError, match=r"pip install 'backbone-zoo\[lora\]'"):
        model_of("timm/test_vit", "lora")
