"""The command line starts light, fails with one clear message, and its output can be read by programs and pipes."""

import inspect
import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest

import zoo
import zoo.cli.plugins_command
import zoo.hooks
from zoo.cli import COMMANDS, main
from zoo.registry.plugins import RECORD_TYPES

pytestmark = pytest.mark.long

HEAVY = ("torch", "torchvision", "timm", "polars", "numpy", "sklearn", "matplotlib", "scipy", "PIL", "jinja2")
PLUGINS = ("zoo_torchvision", "zoo_timm", "zoo_lite", "zoo_imbalance", "zoo_imputation", "zoo_generators")


def run_zoo(*words, **options):
    command = [sys.executable, "-W", "error", "-m", "zoo", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def loaded_by(code):
    """Top-level modules that a fresh interpreter holds after this code."""
    code += "\nimport sys\nsys.stderr.write(' '.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return set(done.stderr.split())


def refusal(done):
    """What a request that cannot be met prints: one message on standard error and nothing else."""
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def warm():
    """A catalogue on disk, as after the first `zoo list`."""
    assert run_zoo("list").returncode == 0


@pytest.mark.parametrize(
    "code",
    [
        "import zoo",
        "import zoo.cli",
        "from zoo.cli import main; main(['--help'])",
        "from zoo.cli import main; main(['--version'])",
        "from zoo.cli import main; main(['plugins'])",
        "from zoo.registry.plugins import load_plugins; assert not [p for p in load_plugins() if p.failure]",
    ],
)
def test_starting_is_light(code):
    assert not loaded_by(code) & set(HEAVY)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_help_of_a_command_imports_no_torch(command):
    code = f"from zoo.cli import main\ntry:\n    main([{command!r}, '--help'])\nexcept SystemExit:\n    pass"
    assert not loaded_by(code) & {"torch", "torchvision", "timm"}


def test_a_warm_list_imports_no_library_and_no_plugin(warm):
    loaded = loaded_by("from zoo.cli import main; assert main(['list']) == 0")
    assert not loaded & {*HEAVY, *PLUGINS}


@pytest.mark.parametrize("plugin", PLUGINS)
def test_importing_a_plugin_of_ours_imports_no_torch(plugin):
    assert not loaded_by(f"import {plugin}") & {"torch", "torchvision", "timm"}


def test_every_public_name_of_zoo_is_there_and_documented():
    for name in zoo.__all__:
        assert inspect.getdoc(getattr(zoo, name)), name
    assert set(zoo.__all__) <= set(dir(zoo))
    with pytest.raises(AttributeError, match="module 'zoo' has no attribute 'nosuchthing'"):
        zoo.nosuchthing  # noqa: B018


def test_help_names_every_command():
    done = run_zoo("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for command, text in COMMANDS.items():
        assert f"  {command:<8}" in done.stdout
        assert text in done.stdout


def test_without_a_command_the_help_comes_with_exit_code_2(capsys):
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("usage: zoo COMMAND")


def test_version_is_that_of_the_distribution(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"backbone-zoo {version('backbone-zoo')}\n"


def test_a_misspelt_command_is_refused_with_a_suggestion():
    assert "unknown command 'lst'; there are list, " in refusal(run_zoo("lst"))
    assert refusal(run_zoo("lst")).endswith("; did you mean list?\n")


def test_a_command_unlike_any_is_refused_without_a_suggestion(capsys):
    assert main(["xyzzy"]) == 2
    assert "did you mean" not in capsys.readouterr().err


def test_a_pattern_that_matches_nothing_is_refused():
    assert refusal(run_zoo("list", "nosuchthing")).startswith("zoo list: no backbone matches 'nosuchthing'")


def test_a_misspelt_option_is_refused():
    assert "--jsn" in refusal(run_zoo("list", "--jsn"))


def test_debug_shows_the_traceback():
    done = run_zoo("--debug", "list", "nosuchthing")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "UnknownNameError: no backbone matches" in done.stderr


def test_a_misspelt_backbone_is_refused_with_a_suggestion(capsys):
    assert main(["info", "torchvision/resnt18"]) == 2
    nothing, message = capsys.readouterr()
    assert nothing == ""
    assert "Traceback" not in message
    assert "torchvision has no backbone 'resnt18'; `zoo list torchvision/` shows what it has; did you mean " in message
    assert "torchvision/resnet18" in message


def test_weights_that_a_backbone_does_not_have_are_refused():
    message = refusal(run_zoo("info", "torchvision/resnet18.IMAGENET1K_V3"))
    said = "torchvision/resnet18 has no weights 'IMAGENET1K_V3'; it has IMAGENET1K_V1; did you mean IMAGENET1K_V1?"
    assert said in message


def test_list_as_json_parses_and_its_names_are_those_of_the_table(warm):
    rows = json.loads(run_zoo("list", "resnet18", "--json").stdout)
    table = run_zoo("list", "resnet18").stdout.splitlines()
    assert table[0].startswith("NAME ")
    assert [line.split()[0] for line in table[1:-1]] == [row["name"] for row in rows]
    assert table[-1] == f"{len(rows)} backbones"
    assert {"timm/resnet18", "torchvision/resnet18"} <= {row["name"] for row in rows}
    assert {row["distribution"] for row in rows} == {"backbone-zoo"}


def test_plugins_as_json_parses():
    plugins = {plugin["name"]: plugin for plugin in json.loads(run_zoo("plugins", "--json").stdout)}
    assert plugins["builtin"]["offers"] == {"heads": ["linear", "mlp", "cosine", "attention", "ensemble", "trees"]}
    assert plugins["timm"]["offers"] == {"backbones": ["timm"]}
    assert all(plugin["failure"] is None for plugin in plugins.values())


def test_a_plugin_that_is_switched_off_says_so_and_is_not_listed(tmp_path):
    off = {**os.environ, "ZOO_DISABLE": "timm,torchvision", "ZOO_CACHE": str(tmp_path)}
    done = run_zoo("plugins", env=off)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("timm")]
    assert "switched off by ZOO_DISABLE" in line
    assert {row["name"].partition("/")[0] for row in json.loads(run_zoo("list", "--json", env=off).stdout)} == {"lite"}


def test_plugins_shows_what_failed_and_list_warns_about_it(tmp_path):
    (tmp_path / "acme_broken.py").write_text("import no_such_library\n")
    folder = tmp_path / "acme-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[zoo]\nacme = acme_broken\n")
    own = {"PYTHONPATH": str(tmp_path), "ZOO_DISABLE": "timm,torchvision", "ZOO_CACHE": str(tmp_path / "cache")}
    environment = {**os.environ, **own}
    reason = "ModuleNotFoundError: No module named 'no_such_library'"
    plugins = run_zoo("plugins", env=environment)
    assert plugins.returncode == 0
    assert f"acme 1.0  FAILED {reason}" in plugins.stdout
    listed = run_zoo("list", env=environment)
    assert listed.returncode == 0
    assert listed.stderr == f"zoo list: plugin 'acme' of acme 1.0: {reason} ({tmp_path}/acme_broken.py:1)\n"
    assert "lite/" in listed.stdout


def test_without_any_plugin_there_is_advice_and_no_traceback(monkeypatch, capsys):
    monkeypatch.setattr("zoo.jobs.listing.plugins_json", list)
    assert main(["plugins"]) == 0
    assert capsys.readouterr().out.startswith("no plugin is installed")


@pytest.mark.parametrize("name", ["timm/resnet18", "torchvision/resnet18"])
def test_stages_and_classifier_hold_every_parameter_of_a_backbone(name, capsys):
    assert main(["info", name, "--json", "--freeze", "last(1)"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == name
    assert found["parameters"] == 11_689_512
    assert sum(stage["parameters"] for stage in found["stages"]) + found["classifier_parameters"] == found["parameters"]
    assert found["classifier_parameters"] == 513_000
    assert [stage["trainable"] > 0 for stage in found["stages"]] == [False] * (len(found["stages"]) - 1) + [True]
    assert found["input"]["size"] == [224, 224]


@pytest.mark.parametrize("words", [["list"], ["--help"], ["list", "--help"], ["plugins", "--json"]])
@pytest.mark.parametrize("lines", [0, 1])
def test_a_reader_that_leaves_early_sees_no_traceback(words, lines, warm):
    command = [sys.executable, "-m", "zoo", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(lines):
            assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 0


def test_another_pipe_that_breaks_is_no_success(monkeypatch, capsys):
    def run(words):
        raise BrokenPipeError("a worker died")

    monkeypatch.setattr(zoo.cli.plugins_command, "run", run)
    with pytest.raises(BrokenPipeError, match="a worker died"):
        main(["plugins"])


def test_ctrl_c_ends_with_130_and_one_line(monkeypatch, capsys):
    def run(words):
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo.cli.plugins_command, "run", run)
    assert main(["plugins"]) == 130
    assert capsys.readouterr().err.startswith("\nzoo plugins: stopped")


def specifications():
    return {name: member for name, member in vars(zoo.hooks).items() if hasattr(member, f"{zoo.hooks.GROUP}_spec")}


def test_every_hook_is_known_and_has_its_kind_of_record():
    assert set(specifications()) == set(zoo.hooks.HOOKS) == set(RECORD_TYPES)


@pytest.mark.parametrize("name", zoo.hooks.HOOKS)
def test_every_hook_is_documented_with_an_example_of_its_own(name):
    documentation = inspect.getdoc(specifications()[name])
    sentence, _, example = documentation.partition("Example::")
    assert sentence.startswith("Yield ")
    assert "; called when " in sentence
    assert f"@hookimpl\n    def {name}():\n        yield {RECORD_TYPES[name].__name__}(" in example
    compile(inspect.cleandoc(example), name, "exec")
