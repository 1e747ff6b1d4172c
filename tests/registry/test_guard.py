"""Whatever breaks in a plugin is told in one line that names it, and nothing of it looks like the user's mistake."""

import pytest
import torch

import zoo
from zoo.errors import OptionError, PluginError, WeightsError, ZooError
from zoo.model.network import TaskHeads
from zoo.model.view import describe
from zoo.registry.guard import guarded, view_fault
from zoo.registry.lookup import HEADS
from zoo.registry.plugins import load_plugins
from zoo.specs import Call, ClassStatistics, Task
from zoo.training.strategy import answer

TASK = Task(name="label", classes=("a", "b", "c"))
NET = """
    from zoo.specs import *

    def build(model, tag):
        from torch import nn
        {build}
        net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        return BackboneView(
            name="acme/tiny", module=net, features=(FeatureKind(name="pooled", width={width}),),
            input=InputSpec(size=(8, 8), resize=8),
            extract=lambda net, images, kind: net[:3](images),
            reset_classifier=lambda net, outputs: {reset},
            **partition(net, [("body", "stage", {paths})], classifier=["3"]),
        )

    def describe(module):
        raise LookupError("no idea")

    @hookimpl
    def zoo_backbones():
        yield BackboneSource(name="acme", entries=lambda: [BackboneEntry(name="tiny")], build=build, {more})
"""
RESET = "net.__setitem__(3, nn.Linear(4, outputs) if outputs else nn.Identity())"
RIGHT = {"reset": RESET, "build": "pass", "width": 4, "paths": ["0"], "more": ""}
MORE = "; `zoo check acme` shows more"


@pytest.fixture
def net(install):
    """Installs a source with one network, some of it replaced."""

    def write(**changes):
        install("acme", NET.format(**{**RIGHT, **changes}), distribution="acme-nets", version="0.1.0")

    return write


def load():
    return zoo.load("acme/tiny", num_classes=3, weights="none")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"paths": []}, "ValueError: parameter 0.weight belongs to no stage and to no classifier"),
        ({"build": "open('/nowhere/weights')"}, "FileNotFoundError: [Errno 2] No such file or directory"),
        ({"build": "import sys; sys.exit('enough')"}, "SystemExit: enough"),
        ({"build": "return None"}, "build gave None, which is no BackboneView"),
        ({"build": "raise RuntimeError('two\\nlines')"}, "RuntimeError: two lines"),
    ],
)
def test_a_source_that_breaks_while_it_builds_is_named(net, changes, said):
    net(**changes)
    with pytest.raises(PluginError) as caught:
        load()
    message = str(caught.value)
    assert message.startswith(f"plugin acme-nets 0.1.0 (backbone tiny): {said}")
    assert message.endswith(MORE)
    assert "\n" not in message


def test_the_first_error_stays_below_for_debugging(net):
    net(build="return {}['key']")
    with pytest.raises(PluginError) as caught:
        load()
    assert isinstance(caught.value.__cause__, KeyError)


def test_what_the_user_can_mend_passes_as_it_is(net):
    net(build="from zoo.errors import WeightsError; raise WeightsError('fetch them')")
    with pytest.raises(WeightsError, match=r"^fetch them$"):
        load()


def test_ctrl_c_passes(net):
    net(build="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load()


def test_features_of_another_width_than_declared_are_told_at_their_first_use(net):
    net(width=7)
    said = r"acme-nets 0\.1\.0 \(backbone tiny\): it declares 7 pooled features and gives 4; `zoo check acme`"
    with pytest.raises(PluginError, match=said):
        load()(torch.zeros(2, 3, 8, 8))


def test_a_source_that_breaks_while_it_describes_is_named(net):
    net(more="describe=describe")
    with pytest.raises(PluginError, match=r"\(source acme, asked to describe a Linear\): LookupError: no idea"):
        describe(torch.nn.Linear(1, 1))


def test_a_classifier_that_cannot_be_taken_off_is_the_plugins_fault(net):
    net(reset="1 / outputs")
    with pytest.raises(PluginError, match=r"\(backbone tiny\): reset_classifier: ZeroDivisionError: division by zero"):
        load()


def test_a_classifier_that_is_refused_in_words_for_the_user_is_so(net):
    net(build="from zoo.errors import ZooError", reset="(_ for _ in ()).throw(ZooError('no place for one'))")
    with pytest.raises(ZooError, match=r"^no place for one$"):
        load()


def test_a_view_that_nobody_offers_is_named_by_itself():
    assert str(view_fault("nobody/net", "it is wrong")) == "the source of nobody/net: it is wrong"


HEAD = """
    def build(width, outputs, parameters):
        from torch import nn
        {}

    @hookimpl
    def zoo_heads():
        yield HeadRecord(name="odd", build=build)
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("return {}['key']", "KeyError: 'key'"),
        ("return None", "build gave None, which is no torch module"),
        ("return nn.Linear(width, outputs + 1)", r"asked for 3 outputs, it gives \(2, 4\) for two rows, not \(2, 3\)"),
        ("return nn.Linear(width + 1, outputs)", "RuntimeError: .*mat1 and mat2 shapes cannot be multiplied"),
        ("return nn.LSTM(width, outputs)", "asked for 3 outputs, it gives tuple for two rows"),
    ],
)
def test_a_head_that_breaks_is_named(install, code, said):
    install("acme", HEAD.format(code), distribution="acme-heads", version="0.1.0")
    with pytest.raises(PluginError, match=rf"^plugin acme-heads 0\.1\.0 \(head odd\): {said}"):
        TaskHeads([TASK], 5, head=Call(name="odd"))


def test_trying_a_head_leaves_it_in_training_mode(install):
    install("acme", HEAD.format("return nn.Sequential(nn.Dropout(0.5), nn.Linear(width, outputs))"))
    heads = TaskHeads([TASK], 5, head=Call(name="odd"))
    assert all(module.training for module in heads.modules())


STRATEGY = """
    from zoo.specs import StrategyRecord

    def build(statistics, parameters):
        {}

    @hookimpl
    def zoo_imbalance_strategies():
        yield StrategyRecord(name="odd", build=build)
"""


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("return {}['key']", PluginError, r"^plugin acme 1\.0 \(strategy odd\): KeyError: 'key'; `zoo check acme`"),
        ("return None", PluginError, r"\(strategy odd\): build gave None, which is no Plan"),
        ("raise ValueError('too few')", OptionError, "^odd: too few"),
    ],
)
def test_a_strategy_that_breaks_is_named_and_one_that_refuses_is_not(install, code, kind, said):
    install("acme", STRATEGY.format(code))
    with pytest.raises(kind, match=said):
        answer("odd", ClassStatistics(task=TASK, counts=(5, 3, 2)))


def test_sound_code_passes_the_guard():
    (plugin,) = [one for one in load_plugins() if one.name == "builtin"]
    with guarded(plugin, "head linear"):
        assert HEADS.get("linear").name == "linear"
