"""`zoo new-plugin` writes a project that is whole, tidy and under a name of its own; `tests/stranger` installs one."""

import importlib.util
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from jinja2 import UndefinedError
from safetensors.torch import load_file

from zoo import __version__
from zoo.cli import main
from zoo.config import NewPluginConfig
from zoo.errors import NameClashError, OptionError, ZooError
from zoo.jobs import new_plugin
from zoo.jobs.new_plugin import KINDS, package_of, render, write_plugin
from zoo.testing import plugin
from zoo.testing.check import perform
from zoo.testing.collect import checks_of

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("registry_fixtures", ROOT / "tests/registry/conftest.py")
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
site = _fixtures.site
ALL = {
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "src/acme_nets/__init__.py",
    "src/acme_nets/_backbone.py",
    "src/acme_nets/_head.py",
    "src/acme_nets/_imputer.py",
    "src/acme_nets/_network.py",
    "src/acme_nets/_strategy.py",
    "src/acme_nets/py.typed",
    "src/acme_nets/tiny.safetensors",
    "tests/test_conformance.py",
}


def make(tmp_path, name="acme-nets", **options):
    return write_plugin(NewPluginConfig(**{"name": name, "out": tmp_path / name, **options}))


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def run(*command, **options):
    return subprocess.run([sys.executable, "-m", *map(str, command)], capture_output=True, text=True, **options)


def test_all_kinds_are_written_and_nothing_but_what_is_told(tmp_path):
    made = make(tmp_path)
    assert files_of(made.folder) == set(made.files) == ALL
    assert made.package == "acme_nets"


@pytest.mark.parametrize(
    ("kinds", "left_out"),
    [
        (("head",), {"_backbone.py", "_network.py", "tiny.safetensors", "_strategy.py", "_imputer.py"}),
        (("imputer", "strategy"), {"_backbone.py", "_network.py", "tiny.safetensors", "_head.py"}),
        (("backbone",), {"_head.py", "_strategy.py", "_imputer.py"}),
    ],
)
def test_only_the_kinds_asked_for_are_written(kinds, left_out, tmp_path):
    made = make(tmp_path, kind=kinds)
    assert files_of(made.folder) == {name for name in ALL if Path(name).name not in left_out}
    hooks = (made.folder / "src/acme_nets/__init__.py").read_text()
    assert hooks.count("@hookimpl") == len(kinds)
    said = (made.folder / "README.md").read_text()
    assert not [name for name in left_out if name in said]


def test_the_project_announces_its_hooks_and_needs_this_release(tmp_path):
    made = make(tmp_path)
    project = tomllib.loads((made.folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "acme-nets"
    assert project["entry-points"] == {"zoo": {"acme-nets": "acme_nets"}}
    assert project["dependencies"] == [f"backbone-zoo>={__version__}"]
    assert "the authors of acme-nets" in (made.folder / "LICENSE").read_text()


def test_the_weights_are_the_same_each_time_fit_the_network_and_are_said_to_be_random(tmp_path):
    state = torch.random.get_rng_state()
    first, second = make(tmp_path), make(tmp_path, out=tmp_path / "again")
    assert torch.equal(state, torch.random.get_rng_state())
    one, two = (load_file(made.folder / "src/acme_nets/tiny.safetensors") for made in (first, second))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (first.folder / "src/acme_nets/tiny.safetensors").stat().st_size < 50_000
    assert "**The weights are random numbers" in (first.folder / "README.md").read_text()
    assert first.notes == ("the weights are random stand-ins from a fixed seed; nothing was trained",)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_alone_passes_its_checks(kind, tmp_path, site):
    made = make(tmp_path, f"only-{kind}", kind=(kind,))
    shutil.copytree(made.folder / "src", site, dirs_exist_ok=True)
    info = site / f"{made.package}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: only-{kind}\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(f"[zoo]\nonly-{kind} = {made.package}\n")
    _fixtures._forget()
    found = [perform(check) for check in checks_of(f"only-{kind}")]
    assert len(found) > len(plugin.CHECKS)
    assert not [result for result in found if result.outcome not in ("passed", "skipped")]


@pytest.mark.parametrize("name", ["q", "acme-nets", "a-name-that-is-longer-than-most-of-them"])
@pytest.mark.parametrize("kinds", [KINDS, ("head",), ("strategy", "imputer")])
def test_what_is_written_is_tidy(name, kinds, tmp_path):
    for path, text in render(name, package_of(name), kinds).items():
        assert "{{" not in text, path
        assert "{%" not in text, path
        assert text == "" or (text.endswith("\n") and not text.endswith("\n\n")), path
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    for words in (["check", "--isolated"], ["format", "--isolated", "--check"]):
        done = run("ruff", *words, "--no-cache", ".", cwd=tmp_path)  # from here, zoo would count as its own
        assert done.returncode == 0, done.stdout


def test_what_is_written_passes_mypy(tmp_path):
    made = make(tmp_path)
    # torch stays unread, which would take a minute; what zoo declares is read.
    words = ["--no-site-packages", "--ignore-missing-imports", "--follow-imports=silent", "--config-file="]
    path = {"MYPYPATH": str(ROOT)}
    done = run("mypy", "src", *words, f"--cache-dir={tmp_path / 'cache'}", cwd=made.folder, env=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 source files" in done.stdout


def test_the_command_says_what_it_wrote_and_what_to_type_next(tmp_path, capsys):
    out = tmp_path / "a folder"
    assert main(["new-plugin", "acme-nets", "--out", str(out), "--kind", "head", "--kind", "strategy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{out} holds a plugin that passes its checks as it stands:"
    assert "  src/acme_nets/_head.py" in lines
    wanted = [f"  pip install --editable '{out}'", "  zoo check acme-nets", f"  python -m pytest '{out}'"]
    assert lines[-4:] == ["go on with:", *wanted]
    assert not [line for line in lines if line.startswith("note:")]


def test_the_command_speaks_json_and_writes_into_a_folder_of_the_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["new-plugin", "acme-nets", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["folder"] == "acme-nets"
    assert set(found["files"]) == files_of(tmp_path / "acme-nets") == ALL
    assert found["commands"][1] == "zoo check acme-nets"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Acme Nets", "; acme-nets would do"),
        ("1abc", "; abc would do"),
        ("acme--nets", "; acme-nets would do"),
        ("-acme", "; acme would do"),
        ("acme.nets", "; acme-nets would do"),
        ("acme/nets", "; acme-nets would do"),
        ("../acme", "; acme would do"),
        ("Class", "a letter first"),
        ("123", "a letter first"),
        ("", "a letter first"),
        ("zoö", "; zo would do"),
    ],
)
def test_a_name_that_no_package_can_have_is_refused_with_one_that_can(name, hint, tmp_path):
    with pytest.raises(OptionError, match=r"a plugin cannot be called .*: use lower-case letters") as error:
        make(tmp_path, name, out=tmp_path / "new")
    assert str(error.value).endswith(hint)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["class", "import"])
def test_a_keyword_is_refused(name, tmp_path):
    with pytest.raises(OptionError, match=f"'{name}': that is a keyword of Python; zoo-{name} would do"):
        make(tmp_path, name)
    assert package_of(f"zoo-{name}") == f"zoo_{name}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("backbone-zoo", f"backbone-zoo {__version__} is installed already; choose another name"),
        ("timm", r"timm \d.* is installed already"),
        ("zoo", "a module zoo can be imported already; choose another name than zoo"),
        ("zoo-timm", "a module zoo_timm can be imported already"),
        ("json", "a module json can be imported already"),
        ("lite", r"a plugin lite is installed already, by backbone-zoo \d"),
        ("tiny", r"the backbone source tiny is offered already, by tiny-plugin 1 \(tiny\)"),
    ],
)
def test_a_name_that_is_taken_is_refused(name, message, tmp_path):
    with pytest.raises(NameClashError, match=message):
        make(tmp_path, name)
    assert not (tmp_path / name).exists()


def test_the_names_of_kinds_that_are_not_written_may_be_taken(tmp_path):
    assert "src/tiny/_head.py" in make(tmp_path, "tiny", kind=("head",)).files


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(ZooError, match=r"full is not empty; choose another name or another --out"):
        make(tmp_path, out=tmp_path / "full")
    assert files_of(tmp_path / "full") == {"notes.txt"}
    with pytest.raises(ZooError, match=r"notes\.txt is a file; choose another --out"):
        make(tmp_path, out=tmp_path / "full" / "notes.txt")


def test_an_empty_folder_is_taken_and_a_namesake_on_the_path_is_no_clash(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "acmenets").mkdir()
    assert "pyproject.toml" in make(tmp_path, "acmenets", kind=("strategy",)).files


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match=r"cannot write to .*: Not a directory"):
        make(tmp_path, out=tmp_path / "file" / "below")


def test_a_word_that_a_template_lacks_is_an_error(monkeypatch):
    words = new_plugin._words
    assert render("acme", "acme", ("head",))
    monkeypatch.setattr(new_plugin, "_words", lambda *told: {k: v for k, v in words(*told).items() if k != "name"})
    with pytest.raises(UndefinedError, match="'name' is undefined"):
        render("acme", "acme", ("head",))


def test_a_wheel_of_ours_ships_every_template():
    from hatchling.builders.wheel import WheelBuilder

    built = WheelBuilder(str(ROOT)).recurse_included_files()
    shipped = {file.distribution_path for file in built}
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "zoo/templates").rglob("*.j2")}
    assert len(templates) == len(ALL) - 1  # the weights are made
    assert templates <= shipped
