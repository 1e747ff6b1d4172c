"""The core's heads: they begin fair, learn, take what they say they take, and their options are checked."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import zoo
from zoo.builtin._modules import AttentionHead, CosineHead
from zoo.errors import OptionError, ZooError
from zoo.model.load import assemble, feature_of, strip
from zoo.model.network import Standardise, TaskHeads
from zoo.model.view import build_view
from zoo.registry.lookup import HEADS
from zoo.specs import Task, parse_options
from zoo.testing.heads import head_checks

HEAD_NAMES = ("linear", "mlp", "cosine", "attention")
OPTIONS = (*HEAD_NAMES, "linear(dropout=0.3)", "mlp(hidden=32, layers=2, dropout=0.2)", "cosine(learn_scale=false)")
TASK = Task(name="a", classes=("x", "y", "z"))


def heads_of(text, width=16, covariates=0, tasks=(TASK,)):
    torch.manual_seed(0)
    return TaskHeads(tasks, width, covariates=covariates, head=parse_options(text)[0])


def features_for(heads, rows=6, width=16, seed=0):
    shape = (rows, 5, width) if heads.takes == "tokens" else (rows, width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_core_offers_these_heads():
    own = [record.name for plugin, record in HEADS.items() if plugin.name == "builtin"]
    assert own == [*HEAD_NAMES, "ensemble", "trees"]


@pytest.mark.parametrize("name", HEAD_NAMES)
def test_a_head_keeps_what_the_conformance_kit_asks(name):
    checks = head_checks(HEADS.get(name))
    assert len(checks) > 10
    for check in checks:
        check.run()


@pytest.mark.parametrize("text", OPTIONS)
def test_a_head_begins_with_equal_classes_and_learns_from_the_first_steps_on(text):
    heads = heads_of(text)
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 3, (96,), generator=generator)
    features = features_for(heads, rows=96) * 0.5
    mark = torch.zeros_like(features)
    mark[torch.arange(96), ..., labels] = 2.0  # the class shows in one feature
    features = features + mark
    heads.standardise.fit(features)
    start = F.softmax(heads.eval()(features)["a"].detach(), dim=1)
    assert float((start - 1 / 3).abs().max()) < 1e-5
    optimiser = torch.optim.AdamW(heads.parameters(), lr=1e-2)
    before = {name: value.clone() for name, value in heads.named_parameters()}
    for _ in range(60):
        optimiser.zero_grad()
        F.cross_entropy(heads.train()(features)["a"], labels).backward()
        optimiser.step()
    # Keys of attention are blind to a shift of all of them, so their bias has no gradient.
    still = [n for n, value in heads.named_parameters() if torch.equal(value, before[n]) and not n.endswith("key.bias")]
    assert still == []
    assert float((heads.eval()(features)["a"].argmax(1) == labels).float().mean()) > 0.95


@pytest.mark.parametrize("name", HEAD_NAMES)
def test_several_targets_make_several_heads_of_a_kind(name):
    tasks = [TASK, Task(name="b.c", classes=("u", "v"))]
    heads = heads_of(name, covariates=2, tasks=tasks)
    logits = heads(features_for(heads), torch.randn(6, 2))
    assert {task: tuple(value.shape) for task, value in logits.items()} == {"a": (6, 3), "b.c": (6, 2)}
    assert heads.heads[0] is not heads.heads[1]


@pytest.mark.parametrize("name", HEAD_NAMES)
def test_covariates_move_the_logits(name):
    heads = heads_of(name, covariates=3)
    with torch.no_grad():
        for parameter in heads.heads.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    features = features_for(heads)
    one, other = (heads(features, columns)["a"].detach() for columns in (torch.zeros(6, 3), torch.ones(6, 3)))
    assert float((one - other).abs().min()) > 1e-4
    with pytest.raises(ValueError, match="trained with 3 covariate columns; give them"):
        heads(features)


def test_the_logits_of_a_cosine_head_are_scaled_cosines():
    head = CosineHead(4, 2, scale=7.0, learn_scale=True)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[2.0, 0, 0, 0], [0, 3.0, 0, 0]]))
    features = torch.tensor([[5.0, 0, 0, 0], [0.1, 0.1, 0, 0], [0, 0, 1.0, 0]])
    root = 7 / 2**0.5
    assert torch.allclose(head(features), torch.tensor([[7.0, 0], [root, root], [0, 0]]), atol=1e-5)
    assert torch.allclose(head(features * 100), head(features), atol=1e-5)


def test_attention_begins_as_a_mean_and_then_looks_at_the_token_that_matters():
    torch.manual_seed(0)
    head = AttentionHead(8, 2, heads=2, dropout=0.0)
    nn.init.normal_(head.classifier.weight)
    tokens = torch.randn(4, 6, 8)
    mean = head.classifier(head.value(tokens.mean(1)))
    assert torch.allclose(head(tokens), mean, atol=0.05)
    assert torch.allclose(head(tokens[:, torch.randperm(6)]), head(tokens), atol=1e-5)  # tokens have no order
    with torch.no_grad():
        head.query.fill_(50.0)
    chosen = head.key(tokens).unflatten(-1, (2, 4)).sum(-1).argmax(1)  # (4, heads)
    values = head.value(tokens).unflatten(-1, (2, 4))
    picked = torch.stack([values[torch.arange(4), chosen[:, part], part] for part in range(2)], 1).flatten(1)
    assert torch.allclose(head(tokens), head.classifier(picked), atol=0.15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linear(dropout=1)", r"dropout must lie in \[0, 1\), not 1\.0"),
        ("mlp(dropout=-0.1)", r"dropout must lie in \[0, 1\), not -0\.1"),
        ("mlp(hidden=0)", "hidden must be at least 1, not 0"),
        ("mlp(layers=0)", "layers must be at least 1, not 0"),
        ("cosine(scale=0)", r"scale must be positive, not 0\.0"),
        ("attention(heads=0)", "heads must be at least 1, not 0"),
        ("attention(dropout=2)", r"dropout must lie in \[0, 1\), not 2\.0"),
        ("mlp(hiden=3)", "mlp has no parameter 'hiden'; it takes hidden, layers, dropout; did you mean hidden"),
        ("mpl", "unknown head 'mpl'; there are attention, cosine, ensemble, linear, mlp, trees; did you mean mlp"),
    ],
)
def test_a_bad_head_is_refused_and_the_error_points_at_it(text, message):
    with pytest.raises(OptionError, match=message) as caught:
        heads_of(text)
    assert f"\n    {text}\n" in str(caught.value)
    assert str(caught.value).rstrip().endswith("^")


def test_tokens_are_standardised_by_channel_over_rows_and_tokens():
    tokens = torch.randn(150, 7, 3) * torch.tensor([1.0, 5.0, 0.1]) + torch.tensor([0.0, 100.0, -3.0])
    standardise = Standardise(3)
    standardise.fit(tokens)
    flat = tokens.flatten(0, 1).double()
    assert torch.allclose(standardise.mean.double(), flat.mean(0), rtol=1e-6)
    assert torch.allclose(standardise.std.double(), flat.std(0, correction=0), rtol=1e-6)
    assert standardise(tokens).shape == tokens.shape


def test_statistics_from_parts_are_those_of_the_whole():
    features = torch.randn(333, 4) * 3 + 1000
    whole, parts = Standardise(4), Standardise(4)
    whole.fit(features)
    parts.fit_parts(torch.split(features, 10))
    assert torch.allclose(parts.std, features.double().std(0, correction=0).float(), rtol=1e-6)
    assert torch.allclose(parts.std, whole.std, rtol=1e-6)
    assert torch.allclose(parts.mean, whole.mean, rtol=1e-7)


def test_only_linear_heads_are_linear_and_only_they_take_the_standardisation_in():
    assert [heads_of(name).linear for name in HEAD_NAMES] == [True, False, False, False]
    assert [heads_of(name).one_layer for name in HEAD_NAMES] == [True, False, True, False]
    assert heads_of("linear(dropout=0.5)").linear
    assert [heads_of(name).fold() for name in HEAD_NAMES] == [True, False, False, False]


@pytest.fixture(scope="module")
def vit():
    return strip(build_view("timm/test_vit", "none"))


@pytest.fixture(scope="module")
def convnet():
    return strip(build_view("timm/test_efficientnet", "none"))


def head(text):
    return parse_options(text)[0]


def test_a_head_that_takes_tokens_gets_them_without_being_told(vit):
    assert feature_of(vit, None, head("attention")).name == "tokens"
    assert feature_of(vit, "tokens", head("attention")).name == "tokens"
    assert feature_of(vit, None, head("mlp")).name == "pooled"
    assert feature_of(vit, "cls", head("cosine")).name == "cls"
    model = assemble(vit, [TASK], head=head("attention"))
    assert (model.kind, model.heads.takes) == ("tokens", "tokens")
    assert model(torch.randn(2, 3, 160, 160)).shape == (2, 3)


def test_where_there_are_no_tokens_the_error_names_kinds_and_heads_that_fit(convnet):
    with pytest.raises(ZooError, match="head attention takes tokens, but timm/test_efficientnet offers pooled alone"):
        feature_of(convnet, None, head("attention"))
    with pytest.raises(ZooError, match=r"heads that take those: cosine, ensemble, linear, mlp, trees$"):
        feature_of(convnet, None, head("attention"))


def test_a_kind_and_a_head_that_do_not_fit_are_refused_and_heads_that_do_are_named(vit):
    with pytest.raises(
        ZooError, match=r"attention takes tokens, not cls features; .*: cosine, ensemble, linear, mlp, trees$"
    ):
        feature_of(vit, "cls", head("attention"))
    with pytest.raises(ZooError, match="a mlp head takes one vector an image; tokens need a head that pools them: att"):
        feature_of(vit, "tokens", head("mlp"))


def test_python_loads_a_model_with_any_head():
    model = zoo.load("timm/test_vit", num_classes=3, weights="none", head="attention(heads=4)", freeze="head")
    model(torch.randn(2, 3, 160, 160)).sum().backward()
    assert model.heads.heads[0].classifier.weight.grad is not None
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    zoo.adapt_head(model, 5)
    assert model(torch.randn(1, 3, 160, 160)).shape == (1, 5)
