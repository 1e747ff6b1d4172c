"""The tutorial for plugin authors is true: its code is installed and checked, its tables are those of the code."""

import contextlib
import dataclasses
import importlib.util
import re
import runpy
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import zoo
import zoo.specs
from zoo.cli import COMMANDS, main
from zoo.hooks import HOOKS
from zoo.registry.origins import on_disk
from zoo.registry.plugins import RECORD_TYPES, load_plugins
from zoo.testing import backbones, datasets, generators, heads, image_imputers, imputers, plugin, sources, strategies
from zoo.testing.check import perform
from zoo.testing.collect import checks_of
from zoo.testing.parameters import parameter_checks

PATH = Path(__file__).parents[1] / "plugins" / "README.md"
TEXT = PATH.read_text(encoding="utf-8")
GENERATED = "<!-- generated: tests/test_plugins_readme.py says what stands here -->\n"
BLOCKS = dict(re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
SNIPPETS = re.findall(r"^```python\n(?!# \S+\.py\n)(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)

_spec = importlib.util.spec_from_file_location("registry_fixtures", Path(__file__).parent / "registry/conftest.py")
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
site = _fixtures.site


def expected_checks():
    """The last section, made of the names of the kit's checks."""
    kinds = {
        "a plugin": plugin.CHECKS,
        "a backbone source": sources.SOURCE_CHECKS,
        "a backbone": backbones.CHECKS,
        "a head": heads.CHECKS,
        "a strategy": {**strategies.CHECKS, **strategies.SLOT_CHECKS},
        "an imputer of covariates": {**imputers.CHECKS, **imputers.DRAWING},
        "an imputer of pixels or channels": image_imputers.CHECKS,
        "a generator": generators.CHECKS,
        "a data set": datasets.CHECKS,
    }
    lines = ["", "Each by its name, as `zoo check` and the tests show it."]
    for kind, checks in kinds.items():
        lines += ["", f"Of {kind}:", "", *(f"- `{name}`" for name in checks)]
    return "\n".join(
        [*lines, "", "Of the parameters of a head, a strategy, an imputer and a generator:", "", *OF_PARAMETERS, ""]
    )


OF_PARAMETERS = ("- `the-parameter-NAME-reaches-what-is-built`", "- `each-parameter-can-be-written-as-an-option`")


def test_the_checks_it_lists_are_those_of_the_kit():
    assert TEXT.partition(GENERATED)[2] == expected_checks(), "run `python tests/test_plugins_readme.py`"
    parameters = {f"- `{check.name}`" for check in parameter_checks("x", Parameters, repr)}
    assert parameters == {line.replace("NAME", "some-value") for line in OF_PARAMETERS}


@dataclasses.dataclass(frozen=True)
class Parameters:
    some_value: int = 1


def test_the_hooks_it_shows_are_all_hooks():
    assert set(re.findall(r"^def (zoo_\w+)\(\):", BLOCKS["acme_zoo/__init__.py"], re.MULTILINE)) == set(HOOKS)
    assert re.findall(r"^## .*`(zoo_\w+)`$", TEXT, re.MULTILINE) == list(HOOKS)
    assert set(re.findall(r"\bzoo_[a-z_]+s\b", TEXT)) == set(HOOKS)


def test_the_commands_it_names_exist():
    named = re.findall(r"(?:^    |`)zoo ([\w-]+)", TEXT, re.MULTILINE)
    assert {"new-plugin", "check", "plugins", "list", "info", "train"} <= set(named) <= set(COMMANDS)


def sections():
    table = r"^### `(\w+)`\n\n\| field \| what it is \|\n\|---\|---\|\n((?:\|.*\n)+)"
    return dict(re.findall(table, TEXT, re.MULTILINE))


def test_every_record_has_its_table():
    wanted = {record.__name__ for record in RECORD_TYPES.values()}
    assert set(sections()) == wanted | {"BackboneEntry", "Weights", "BackboneView", "Plan", "DatasetTable"}


@pytest.mark.parametrize("name", sections())
def test_the_fields_in_its_tables_are_those_of_the_code(name):
    fields = {field.name for field in dataclasses.fields(getattr(zoo.specs, name))} - {"api"}
    rows = [row.split("|")[1] for row in sections()[name].splitlines()]
    assert {word for row in rows for word in re.findall(r"`(\w+)`", row)} == fields


def test_the_exclusion_it_shows_names_a_network_and_a_check():
    (snippet,) = SNIPPETS
    told = {}
    exec(snippet, told)
    ((model, reasons),) = told["exclusions"].items()
    assert f'name="{model}"' in BLOCKS["acme_zoo/_backbone.py"]
    assert set(reasons) <= set(backbones.CHECKS)


@pytest.fixture
def acme(site):
    """The package of the tutorial, installed; gives its folder."""
    (pyproject,) = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    project = tomllib.loads(pyproject)["project"]
    for name, code in BLOCKS.items():
        path = site / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
    info = site / "acme_zoo-1.0.0.dist-info"
    info.mkdir()
    said = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(said)
    points = "".join(f"{name} = {value}\n" for name, value in project["entry-points"]["zoo"].items())
    (info / "entry_points.txt").write_text(f"[zoo]\n{points}")
    _fixtures._forget()
    with contextlib.chdir(site):
        runpy.run_path("make_files.py")
    return site / "acme_zoo"


def test_its_package_loads_and_offers_one_thing_of_each_kind(acme):
    (found,) = [one for one in load_plugins() if one.distribution == "acme-zoo"]
    assert found.failure is None
    assert {hook: len(records) for hook, records in found.records.items()} == dict.fromkeys(HOOKS, 1)


def test_its_package_passes_every_check(acme):
    found = [perform(check) for check in checks_of("acme-zoo")]
    assert {result.subject for result in found} == {
        "plugin acme",
        "source acme",
        "backbone acme/patch8",
        "backbone acme/patch16",
        "head acme-two-layers",
        "strategy acme-focal",
        "imputer acme-constant",
        "generator acme-jittered",
        "data set acme-tiles",
    }
    assert not [result for result in found if result.outcome not in ("passed", "skipped")]
    skipped = {result.check for result in found if result.outcome == "skipped"}
    empty = {name for name, (slot, _) in strategies.SLOT_CHECKS.items() if slot != "criterion"}
    assert skipped == empty | {"without-classifier-the-network-gives-pooled-features"}


def test_its_network_loads_its_weights_and_takes_other_images(acme):
    from acme_zoo._network import PatchNet

    model = zoo.load("acme/patch8.acme_shapes", num_classes=3, freeze="last(1)", size=64, channels=2)
    assert model(torch.zeros(2, 2, 64, 64)).shape == (2, 3)
    zoo.freeze(PatchNet(16), "last(1)").verify()


def test_its_table_lies_where_its_command_writes_it(acme):
    (path,) = re.findall(r"^    zoo check 'acme/\*' --table (\S+)$", TEXT, re.MULTILINE)
    (found,) = [one for one in load_plugins() if one.distribution == "acme-zoo"]
    assert found.records["zoo_backbones"][0].table == acme.parent / path


def test_its_command_trains_on_its_tiles_with_its_weights(acme, tmp_path, capsys):
    (words,) = re.findall(r"^    zoo (train acme-tiles .*)$", TEXT, re.MULTILINE)
    with contextlib.chdir(tmp_path):
        assert main([*words.split(), "--epochs", "1", "--quiet"]) == 0
    assert on_disk("wheel:acme-zoo/acme_zoo/patch8.safetensors")


def test_every_file_that_it_shows_is_in_its_tree(acme):
    tree = TEXT.partition("In the end that holds:")[2].partition("An entry point")[0]
    shown = set(re.findall(r"^    ([\w/]+\.\w+|acme_zoo/tiles/)", tree, re.MULTILINE))
    assert {"make_files.py", "acme_zoo/__init__.py", "acme_zoo/patch8.safetensors", "acme_zoo/tiles/"} <= shown
    assert all((acme.parent / name).exists() for name in shown - {"acme_zoo/table.json", "pyproject.toml"})


def test_its_converter_renames(acme):
    from acme_zoo._backbone import convert

    assert list(convert(None, {"layers.0.1.weight": 1, "norm.bias": 2})) == ["blocks.0.1.weight", "norm.bias"]


def test_the_test_it_shows_is_a_test_for_each_check(acme):
    told = {}
    exec(BLOCKS["tests/test_conformance.py"], told)
    (mark,) = told["test_conformance"].pytestmark
    assert len(mark.args[1]) == len(checks_of("acme-zoo"))


if __name__ == "__main__":
    PATH.write_text(TEXT.partition(GENERATED)[0] + GENERATED + expected_checks(), encoding="utf-8")
    sys.stdout.write(f"{PATH} is written\n")
