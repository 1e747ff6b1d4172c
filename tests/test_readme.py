"""What the README tells people to type exists and parses."""

import re
import shlex
from pathlib import Path

import pytest
import tyro

from zoo.cli import COMMANDS
from zoo.config import CompareConfig, EvaluateConfig, ExportConfig, PredictConfig, ResumeConfig, TrainConfig
from zoo.jobs.compare import expressions
from zoo.jobs.options import check_options
from zoo.registry.lookup import IMPUTERS
from zoo.specs import parse_options

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
COMMAND_LINES = [line.strip() for line in re.findall(r"^    (zoo .*)$", README, re.MULTILINE)]
CONFIGS = {"train": TrainConfig, "evaluate": EvaluateConfig, "predict": PredictConfig, "export": ExportConfig}
CONFIGS["compare"] = CompareConfig


def words(line):
    return shlex.split(line.partition("#")[0])[1:]


def test_the_readme_starts_with_the_two_commands_and_a_real_run():
    head = README.split("## The main job", maxsplit=1)[0]
    assert re.match(r"# backbone-zoo\n\n    make demo .*\n    make test ", head)
    assert "zoo train elpv --backbone lite/efficientnet_lite0" in head
    assert re.search(r"frozen EfficientNet-Lite0 +0\.\d{3} ± 0\.\d{3} over 5 splits", head)
    assert re.search(r"defect, test: accuracy 0\.\d{3}, balanced accuracy 0\.\d{3}", head)


@pytest.mark.parametrize("target", re.findall(r"^    make (\w+)", README, re.MULTILINE))
def test_every_make_target_in_it_exists(target):
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_every_command_in_it_exists(line):
    found = re.findall(r"zoo ([\w-]+)", line)
    assert found
    assert set(found) <= set(COMMANDS)


@pytest.mark.parametrize("line", [line for line in COMMAND_LINES if line.split()[1] in CONFIGS])
def test_the_options_of_its_commands_parse(line):
    command, *rest = words(line)
    config = tyro.cli(ResumeConfig if "--resume" in rest else CONFIGS[command], args=rest)
    if isinstance(config, CompareConfig):
        assert expressions(config)
    elif isinstance(config, TrainConfig) and config.freeze != "POLICY":
        check_options(config)


def test_the_strategies_and_imputers_it_names_exist():
    pairs = re.findall(r"`--(?:imbalance|impute) ([^`]+)`|`(class-weights\([^`]+)`", README)
    table = README.split("| where it acts | strategies |", maxsplit=1)[1].split("\n\n", maxsplit=1)[0]
    named = [*(first or second for first, second in pairs), *re.findall(r"`([^`]+)`", table)]
    assert len(named) >= 25
    for text in (each.strip('"') for each in named):
        if text.partition("=")[0] in {*IMPUTERS, "rows"}:
            check_options(TrainConfig(data="x", backbone="x", out=Path("x"), impute=(text,)))
        else:
            parse_options(text)
            check_options(TrainConfig(data="x", backbone="x", out=Path("x"), imbalance=(text,)))


def test_the_published_figures_stand_beside_ours():
    from zoo.jobs.demo import PUBLISHED

    assert {f"{100 * value:.2f} %" for value in PUBLISHED.values()} <= set(re.findall(r"\d\d\.\d\d %", README))
