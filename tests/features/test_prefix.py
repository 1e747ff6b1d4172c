"""The fast prefix computes what the network computes, and its precision is accepted only where it serves."""

import dataclasses

import numpy as np
import pytest
import torch

from zoo.data.augment import Augmenter, parse_augmentation
from zoo.data.ingest import ingest
from zoo.errors import IntegrityError, ZooError
from zoo.features import acceptance, choose
from zoo.features.acceptance import accept, accept_once, cross_validate
from zoo.features.boundary import Boundary
from zoo.features.choose import choose_prefix
from zoo.features.digests import weights_digest
from zoo.features.extract import View, keep, missing_rows
from zoo.features.prefix import DTYPES, Prefix, Recipe, normalise
from zoo.model.load import strip
from zoo.model.view import build_view
from zoo.registry import lookup
from zoo.registry.digest import package_digest
from zoo.registry.plugins import Plugin
from zoo.specs import BackboneSource
from zoo.training.live import LiveFeatures

CPU = torch.device("cpu")


def whole(view):
    return Boundary(view=view, kind="pooled", whole=True)


@pytest.fixture
def ready(shapes, tmp_path):
    """A small backbone and 24 decoded pictures."""
    torch.manual_seed(0)
    view = strip(build_view("timm/test_efficientnet", "none"))
    paths, labels = shapes(24)
    return view, ingest(paths, view.input, tmp_path / "images"), np.array(labels)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("fold", [True, False])
def test_a_prefix_computes_what_the_network_computes(ready, fold, channels_last):
    view, images, _ = ready
    prefix = Prefix(view, "pooled", Recipe(fold=fold, channels_last=channels_last), CPU)
    pixels = images.pixels(np.arange(8))
    view.module.eval()
    with torch.no_grad():
        reference = view.extract(view.module, normalise(pixels, view.input), "pooled")
    assert (prefix.folded > 0) == fold
    assert torch.allclose(prefix(pixels), reference, rtol=1e-4, atol=1e-5)


def test_the_original_network_is_not_touched(ready):
    view, _, _ = ready
    before = weights_digest(view.module)
    view.module.train()
    Prefix(view, "pooled", Recipe(precision="bf16"), CPU)
    assert weights_digest(view.module) == before
    assert view.module.training
    assert all(parameter.requires_grad for parameter in view.module.parameters())


def test_normalisation_is_that_of_the_pretrained_network(ready):
    view, images, _ = ready
    pixels = images.pixels(np.arange(2))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (view.input.mean, view.input.std))
    assert torch.allclose(normalise(pixels, view.input), (pixels / 255 - mean) / std, atol=1e-5)


def test_a_fold_that_changes_the_features_is_refused(ready, monkeypatch):
    view, _, _ = ready
    real = Prefix.__init__.__globals__["fold"]

    def broken(module, pairs):
        count = real(module, pairs)
        next(module.parameters()).data.mul_(2)
        return count

    monkeypatch.setattr("zoo.features.prefix.fold", broken)
    with pytest.raises(IntegrityError, match=r"folding \d+ norm.* changed the features by"):
        Prefix(view, "pooled", Recipe(), CPU)


def test_features_are_computed_once_and_found_again(ready, tmp_path):
    view, images, _ = ready
    prefix = Prefix(view, "pooled", Recipe(), CPU)
    digest = weights_digest(view.module)
    first = keep(prefix, images, np.arange(24), digest=digest, cache=tmp_path)
    second = keep(prefix, images, np.arange(24)[::-1], digest=digest, cache=tmp_path)
    assert (first.computed, second.computed) == (24, 0)
    assert torch.equal(second.load(), first.load().flip(0))


def test_each_augmentation_and_view_has_a_place_of_its_own_in_the_cache(ready, tmp_path):
    view, images, _ = ready
    prefix, rows = Prefix(view, "pooled", Recipe(), CPU), np.arange(4)
    texts = ["light", "randaugment", "randaugment(m=7)", "trivialaugment", "autoaugment", "light+randaugment"]
    views = [View(augmenter=Augmenter(parse_augmentation(text), 0), number=0) for text in texts]
    views += [
        View(augmenter=views[1].augmenter, number=1),
        View(augmenter=Augmenter(views[1].augmenter.steps, 1), number=0),
    ]
    for each in (None, *views):
        assert keep(prefix, images, rows, digest="x", cache=tmp_path, view=each).computed == 4
    for each in (None, *views):
        assert missing_rows(prefix, images, rows, digest="x", cache=tmp_path, view=each) == 0


def test_rows_with_steps_of_their_own_are_kept_apart_and_are_what_training_sees_without_the_cache(ready, tmp_path):
    view, images, _ = ready
    prefix, rows = Prefix(view, "pooled", Recipe(), CPU), np.arange(8)
    steps, strong = parse_augmentation("light"), parse_augmentation("light+randaugment(m=20)")

    def kept(chosen):
        augmenter = Augmenter(steps, 0, others=(strong,), chosen=np.array(chosen))
        return augmenter, keep(
            prefix, images, rows, digest="x", cache=tmp_path, view=View(augmenter=augmenter, number=0)
        )

    plain = keep(prefix, images, rows, digest="x", cache=tmp_path, view=View(augmenter=Augmenter(steps, 0), number=0))
    augmenter, mixed = kept([0, 1] * 12)
    assert (plain.computed, mixed.computed) == (8, 4)  # rows that have the steps of all are found
    live = LiveFeatures(prefix, images, augment=augmenter, views=1).take(torch.from_numpy(rows), 0)[0]
    torch.testing.assert_close(mixed.load().float(), live, rtol=1e-4, atol=1e-5)
    assert torch.equal(mixed.load()[::2], plain.load()[::2])
    assert not torch.allclose(mixed.load()[1::2], plain.load()[1::2], rtol=1e-2, atol=1e-3)
    _, turned = kept([1, 0] * 12)
    assert turned.computed == 4
    assert torch.equal(turned.load()[1::2], plain.load()[1::2])


def test_rows_that_a_view_leaves_as_they_are_are_computed_once_for_all_views(ready, tmp_path):
    view, images, _ = ready
    prefix, rows = Prefix(view, "pooled", Recipe(), CPU), np.arange(8)
    augmenter = Augmenter((), 0, others=(parse_augmentation("light"),), chosen=np.array([0, 1] * 12))
    views = [View(augmenter=augmenter, number=number) for number in (0, 1)]
    options = {"digest": "y", "cache": tmp_path}
    assert [missing_rows(prefix, images, rows, view=each, **options) for each in views] == [8, 4]
    kept = [keep(prefix, images, rows, view=each, **options) for each in views]
    assert [each.computed for each in kept] == [8, 4]
    plain = keep(prefix, images, rows, **options)
    assert plain.computed == 4  # those that the views change
    for each in kept:
        assert torch.equal(each.load()[::2], plain.load()[::2])
        assert not torch.equal(each.load()[1::2], plain.load()[1::2])
    assert [missing_rows(prefix, images, rows, view=each, **options) for each in (None, *views)] == [0, 0, 0]


@pytest.mark.parametrize("change", ["weights", "precision", "backbone", "preprocessing"])
def test_what_changes_a_feature_changes_its_place_in_the_cache(ready, tmp_path, change):
    view, images, _ = ready
    plain = Prefix(view, "pooled", Recipe(), CPU)
    keep(plain, images, np.arange(4), digest="one", cache=tmp_path)
    digest, other = "one", plain
    if change == "weights":
        digest = "two"
    elif change == "precision":
        other = Prefix(view, "pooled", Recipe(precision="bf16"), CPU)
    elif change == "backbone":  # the same weights in another network are another function
        other = Prefix(dataclasses.replace(view, name="timm/other"), "pooled", Recipe(), CPU)
    else:
        other = Prefix(
            dataclasses.replace(view, input=dataclasses.replace(view.input, std=(1.0, 1.0, 1.0))),
            "pooled",
            Recipe(),
            CPU,
        )
    assert keep(other, images, np.arange(4), digest=digest, cache=tmp_path).computed == 4


@pytest.fixture
def acme(monkeypatch, tmp_path):
    """Offers the source `acme` from a package of its own; gives functions that install it and that change its code."""
    package = tmp_path / "acme_zoo"
    package.mkdir()
    code = package / "__init__.py"
    code.write_text("one = 1")
    monkeypatch.syspath_prepend(tmp_path)

    def install(version="1", distribution="acme", library="acme-nets", module="acme_zoo.nets"):
        source = BackboneSource(name="acme", entries=list, build=lambda model, tag: None, library=library)
        records = {"zoo_backbones": (source,)}
        plugin = Plugin(name="a", distribution=distribution, version=version, module=module, records=records)
        monkeypatch.setattr("zoo.registry.lookup.load_plugins", lambda: (plugin,))

    def edit():
        code.write_text("two = 2")
        package_digest.cache_clear()

    return install, edit


@pytest.mark.parametrize("change", ["code", "version", "distribution", "library"])
def test_features_are_found_again_by_the_plugin_that_they_were_computed_with_alone(
    ready, tmp_path, acme, monkeypatch, change
):
    view, images, _ = ready
    install, edit = acme
    prefix = Prefix(dataclasses.replace(view, name="acme/net"), "pooled", Recipe(), CPU)

    def computed():
        return keep(prefix, images, np.arange(4), digest="x", cache=tmp_path / "cache").computed

    install()
    assert [computed(), computed()] == [4, 0]
    if change == "code":
        edit()
    elif change == "library":
        monkeypatch.setattr("zoo.registry.tables.version", lambda name: "7.1")
    else:
        install(**{change: "2"})
    assert [computed(), computed()] == [4, 0]


@pytest.mark.parametrize("name", ["MyNet", "elsewhere/net", "other:acme/net"])
def test_a_network_that_no_plugin_offers_has_its_place_in_the_cache_too(ready, acme, name):
    acme[0]()
    prefix = Prefix(dataclasses.replace(ready[0], name=name), "pooled", Recipe(), CPU)
    assert prefix.description("x")["code"] == {}


def test_of_two_claimants_of_a_source_both_decide_and_with_its_distribution_one(ready, acme, monkeypatch):
    install, _ = acme
    install()
    (one,) = lookup.load_plugins()
    install(distribution="other", module="")
    (other,) = lookup.load_plugins()
    monkeypatch.setattr("zoo.registry.lookup.load_plugins", lambda: (one, other))

    def code(name):
        return Prefix(dataclasses.replace(ready[0], name=name), "pooled", Recipe(), CPU).description("x")["code"]

    assert list(code("acme/net")) == ["acme:a", "other:a"]
    assert list(code("other:acme/net")) == ["other:a"]


def test_the_same_file_twice_is_computed_once(shapes, tmp_path, ready):
    view, _, _ = ready
    paths, _ = shapes(3)
    images = ingest([*paths, *paths], view.input, tmp_path / "images")
    found = keep(Prefix(view, "pooled", Recipe(), CPU), images, np.arange(6), digest="x", cache=tmp_path)
    assert found.computed == 3
    assert torch.equal(found.load()[:3], found.load()[3:])


class Fake:
    """Stands for a prefix: `accept` only hands it to `compute`."""


def probed(noise, rows=80, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    full = generator.normal(size=(rows, 16)) + labels[:, None]
    low = full + noise * generator.normal(size=full.shape) * np.abs(full).mean()
    fast, reference = Fake(), Fake()
    features = {fast: torch.tensor(low), reference: torch.tensor(full)}
    return accept(fast, reference, np.arange(rows), labels, lambda prefix, wanted: features[prefix][wanted])


def test_reduced_precision_is_accepted_where_the_features_agree():
    accepted, evidence = probed(0.02)
    assert accepted
    assert "against" in evidence


def test_reduced_precision_is_refused_where_they_do_not():
    accepted, evidence = probed(2.0)
    assert not accepted
    assert "below 0.98: not accepted" in evidence


def test_reduced_precision_is_refused_where_the_classifier_loses(monkeypatch):
    scores = iter([[0.9, 0.92, 0.91], [0.5, 0.52, 0.51]])
    monkeypatch.setattr(acceptance, "cross_validate", lambda features, labels: next(scores))
    accepted, evidence = probed(0.0)
    assert not accepted
    assert "balanced accuracy 0.510 against 0.910" in evidence


def test_features_that_are_not_numbers_are_refused():
    nan, full = Fake(), Fake()
    features = {nan: torch.full((8, 4), float("nan")), full: torch.ones(8, 4)}
    accepted, _ = accept(nan, full, np.arange(8), np.arange(8) % 2, lambda prefix, rows: features[prefix][rows])
    assert not accepted


def test_the_probe_stays_small_with_a_thousand_classes():
    labels = np.repeat(np.arange(1000), 5)
    assert len(acceptance._probe_rows(labels)) <= acceptance.PROBE_ROWS
    assert len(acceptance._probe_rows(np.full(10, -1))) == 10


def test_a_recipe_that_does_not_run_is_passed_over_with_its_reason(ready, tmp_path, monkeypatch):
    monkeypatch.setattr(choose, "computes_bf16", lambda kind: True)
    view, images, labels = ready
    plain = Prefix.__call__

    def picky(self, pixels):
        if self.recipe.precision == "bf16":
            raise RuntimeError("no kernel for BFloat16")
        return plain(self, pixels)

    monkeypatch.setattr(Prefix, "__call__", picky)
    options = {"device": CPU, "memory": tmp_path / "speeds", "compute": lambda p, rows: p(images.pixels(rows))}
    chosen = choose_prefix(whole(view), images, np.arange(24), labels, **options)
    assert chosen.prefix.recipe.precision == "fp32"
    assert "does not run: no kernel for BFloat16" in chosen.decisions[-1].why
    with pytest.raises(ZooError, match="runs under none of"):
        choose_prefix(whole(view), images, np.arange(24), labels, precision="bf16", **options)


def test_what_was_computed_before_a_stop_is_kept(ready, tmp_path):
    view, images, _ = ready
    prefix = Prefix(view, "pooled", Recipe(), CPU)

    def stop(done, total):
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(prefix, images, np.arange(24), digest="x", cache=tmp_path, batch=8, progress=stop)
    assert keep(prefix, images, np.arange(24), digest="x", cache=tmp_path, batch=8).computed == 8


def test_too_few_labelled_rows_are_not_cross_validated():
    assert cross_validate(np.zeros((6, 2)), np.array([0, 0, 0, 1, 1, 1])) == []


def test_what_was_accepted_is_asked_once_for_the_same_weights_files_and_labels(ready, tmp_path):
    view, images, labels = ready
    full, fast = (Prefix(view, "pooled", Recipe(precision=name), CPU) for name in ("fp32", "bf16"))
    asked = []

    def compute(prefix, rows):
        asked.append(prefix.recipe.precision)
        return prefix(images.pixels(rows)).float()

    def answer(rows=24, digest="x", labels=labels):
        options = {"images": images, "digest": digest, "memory": tmp_path / "speeds"}
        return accept_once(fast, full, np.arange(rows), labels[:rows], compute, **options)

    first = answer()
    assert asked == ["bf16", "fp32"]
    assert answer() == first
    assert asked == ["bf16", "fp32"]
    for other in ({"rows": 20}, {"digest": "y"}, {"labels": 1 - labels}):
        before = len(asked)
        answer(**other)
        assert len(asked) == before + 2


@pytest.mark.parametrize(("fastest", "expected"), [("bf16", "bf16"), ("fp32", "fp32")])
def test_the_fastest_accepted_recipe_is_chosen_and_remembered(ready, tmp_path, monkeypatch, fastest, expected):
    monkeypatch.setattr(choose, "computes_bf16", lambda kind: True)
    view, images, labels = ready
    raced = []

    def race(calls, device, rounds=3, warm=False):
        raced.append(len(calls))
        order = (
            {"fp32": (0.2, 0.3), "bf16": (0.4, 0.5)} if fastest == "fp32" else {"fp32": (0.4, 0.5), "bf16": (0.2, 0.3)}
        )
        return [*order["fp32"], *order["bf16"]][: len(calls)]  # asked for fp32, only that is raced

    monkeypatch.setattr(choose, "race", race)

    def compute(prefix, rows):
        return prefix(images.pixels(rows)).float()

    options = {"device": CPU, "compute": compute, "memory": tmp_path / "speeds"}
    for _ in range(2):
        chosen = choose_prefix(whole(view), images, np.arange(24), labels, **options)
        assert chosen.prefix.recipe.precision == expected
    assert raced == [4]
    assert "measured by an earlier run" in chosen.decisions[-1].why
    asked = choose_prefix(whole(view), images, np.arange(24), labels, precision="fp32", **options)
    assert asked.prefix.recipe.precision == "fp32"
    assert "fp32 was asked for" in asked.decisions[-1].why


@pytest.mark.parametrize("recipe", [Recipe(precision="bf16"), Recipe(channels_last=True)])
def test_a_prefix_made_from_another_is_the_one_that_is_made_anew(ready, recipe):
    view, images, _ = ready
    base = Prefix(view, "pooled", Recipe(), CPU)
    pixels = images.pixels(np.arange(4))
    before = base(pixels)
    made = base.like(recipe)
    assert torch.equal(made(pixels), Prefix(view, "pooled", recipe, CPU)(pixels))
    assert torch.equal(base(pixels), before)
    assert (made.folded, made.shape, made.dtype) == (base.folded, base.shape, DTYPES[recipe.precision])


def test_a_prefix_is_made_from_a_full_one_folded_alike_alone(ready):
    view, _, _ = ready
    with pytest.raises(ValueError, match="cannot be made into another"):
        Prefix(view, "pooled", Recipe(precision="bf16"), CPU).like(Recipe())
    with pytest.raises(ValueError, match="cannot be made into another"):
        Prefix(view, "pooled", Recipe(), CPU).like(Recipe(fold=False))


def test_where_bf16_is_emulated_it_is_not_even_tried(ready, tmp_path, monkeypatch):
    view, images, labels = ready
    monkeypatch.setattr(choose, "computes_bf16", lambda kind: False)
    tried = []

    def compute(prefix, rows):
        tried.append(prefix.recipe.precision)
        return prefix(images.pixels(rows)).float()

    options = {"device": CPU, "compute": compute, "memory": tmp_path / "speeds"}
    chosen = choose_prefix(whole(view), images, np.arange(24), labels, **options)
    assert chosen.prefix.recipe.precision == "fp32"
    assert "bf16 is not tried: this processor has no instructions for it" in chosen.decisions[-1].why
    assert "bf16" not in tried
    asked = choose_prefix(whole(view), images, np.arange(24), labels, precision="bf16", **options)
    assert asked.prefix.recipe.precision == "bf16"  # who asks for it gets it
