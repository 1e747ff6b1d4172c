"""Each check of a backbone catches the fault that it is made for, and an honest backbone passes them all."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.errors import UnknownNameError, WeightsError, ZooError
from zoo.specs import BackboneEntry, BackboneSource, BackboneView, FeatureKind, InputSpec, Weights, partition
from zoo.testing.backbones import CHECKS, TRAINED, backbone_checks
from zoo.testing.check import perform
from zoo.testing.sources import SOURCE_CHECKS, source_checks
from zoo.testing.specimen import Specimen


class Net(nn.Module):
    """A stem, two stages with BatchNorm and dropout, a neck and a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.stage1 = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.5))
        self.stage2 = nn.Sequential(nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6))
        self.neck = nn.Linear(6, 8)
        self.fc = nn.Linear(8, 5)

    def features(self, images):
        return self.neck(self.stage2(self.stage1(self.stem(images))).mean((2, 3)))

    def forward(self, images):
        return self.fc(self.features(images))


def reset(module, outputs):
    module.fc = nn.Linear(8, outputs, device=module.neck.weight.device) if outputs else nn.Identity()


GROUPS = [
    ("stem", "stem", ["stem"]),
    ("stage1", "stage", ["stage1"]),
    ("stage2", "stage", ["stage2"]),
    ("neck", "neck", ["neck"]),
]


def view_of(module, groups=GROUPS, **changes):
    gone = isinstance(module.fc, nn.Identity)
    fields = {
        "name": "acme/net",
        "module": module,
        "features": (FeatureKind(name="pooled", width=8),),
        "input": InputSpec(size=(16, 16), resize=16),
        "extract": lambda net, images, kind: net.features(images),
        "reset_classifier": reset,
        "input_layers": ("stem",),
        **partition(module, groups, classifier=[] if gone else ["fc"]),
    }
    return BackboneView(**{**fields, **changes})


def source(net=Net, entry=None, describe=None, exclusions=None, **changes):
    entry = entry or BackboneEntry(name="net", weights=(Weights(tag="good"),))

    def build(model, tag):
        if model != "net":
            raise UnknownNameError(f"no {model}")
        if tag not in (None, "good"):
            raise WeightsError(f"no {tag}")
        return view_of(net(), **changes)

    return BackboneSource(
        name="acme", entries=lambda: [entry], build=build, describe=describe, exclusions=exclusions or {}
    )


def test_an_honest_backbone_passes_every_check(ends):
    honest = source(describe=view_of, entry=BackboneEntry(name="net", parameters=789, input_size=16))
    assert sum(parameter.numel() for parameter in Net().parameters()) == 789
    assert ends(backbone_checks(honest, "net")) == {}
    elsewhere = "skipped: none of its weights lie on this disk"
    assert ends(source_checks(honest)) == {"weights-on-this-disk-are-loaded": elsewhere}


def test_checks_run_without_memory_where_the_network_allows_it():
    assert Specimen(source(), "net").device.type == "meta"


class ReadsContent(Net):
    def forward(self, images):
        return super().forward(images) if float(images.sum()) < 1e9 else None

    def features(self, images):
        return super().features(images) if float(images.sum()) < 1e9 else None


def test_a_network_that_reads_the_content_of_tensors_is_checked_on_the_cpu(ends):
    assert Specimen(source(ReadsContent), "net").device.type == "cpu"
    assert ends(backbone_checks(source(ReadsContent), "net")) == {"it-describes-its-own-networks": UNDESCRIBED}


UNDESCRIBED = "skipped: the source describes no networks of the user's"


class BuiltOnTheCpu(Net):
    def __init__(self):
        super().__init__()
        self.shift = torch.arange(3.0).tolist()[1]


def test_a_network_that_reads_content_only_while_it_is_built_runs_without_memory():
    assert Specimen(source(BuiltOnTheCpu), "net").device.type == "meta"


class TakesClassifierApart(Net):
    """Its new classifier takes the pretrained neck along."""


def reset_with_neck(module, outputs):
    reset(module, outputs)
    module.neck = nn.Linear(6, 8 + outputs, device=module.stem.weight.device)
    module.fc = nn.Linear(8 + outputs, outputs, device=module.stem.weight.device)


class Normalises(Net):
    def forward(self, images):
        return super().forward(images)[:, :5]


class TwoAnswers(Net):
    def forward(self, images):
        return super().forward(images), images


class WrongCount(Net):
    def forward(self, images):
        return torch.cat([super().forward(images)] * 2, 1)


class Thaws(Net):
    def features(self, images):
        self.stage1[0].weight.requires_grad_(True)
        return super().features(images)


class StaysAwake(Net):
    def features(self, images):
        self.stage1[2].training = True
        return super().features(images)

    def train(self, mode=True):
        super().train(mode)
        self.stage1[2].training = True
        return self


class Unused(Net):
    def __init__(self):
        super().__init__()
        self.stage2.spare = nn.Parameter(torch.zeros(3))


class FeedsBack(Net):
    """What the second stage gives goes through the first one again, which nobody sees from the gradients."""

    def __init__(self):
        super().__init__()
        self.stage2 = nn.Sequential(nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4))

    def features(self, images):
        found = self.stage2(self.stage1(self.stem(images)))
        return self.neck(self.stage1(F.pad(found, (1, 1, 1, 1))).mean((2, 3)))


class UnusedSecond(Net):
    def __init__(self):
        super().__init__()
        self.stage1.spare = nn.Parameter(torch.zeros(3))


class UnusedStem(Net):
    def __init__(self):
        super().__init__()
        self.stem.spare = nn.Parameter(torch.zeros(3))


class MovesStatistics(Net):
    def features(self, images):
        found = self.stage1[0](self.stem(images))
        norm = self.stage1[1]
        found = F.batch_norm(found, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=True)
        return self.neck(self.stage2(found).mean((2, 3)))


SWAPPED = [GROUPS[0], GROUPS[2], GROUPS[1], GROUPS[3]]
NECK_FIRST = [GROUPS[0], GROUPS[3], GROUPS[1], GROUPS[2]]
NECK_AS_CLASSIFIER = partition(Net(), GROUPS[:3], classifier=["neck", "fc"])


class Two(Net):
    """Two convolutions read the image, and `input_layers` names one of them."""

    def __init__(self):
        super().__init__()
        self.stem.other = nn.Conv2d(3, 4, 3, stride=2)

    def features(self, images):
        found = self.stem(images) + self.stem.other(images)
        return self.neck(self.stage2(self.stage1(found)).mean((2, 3)))


class Rigid(Net):
    """Takes no other size, and its view does not say so."""

    def features(self, images):
        return super().features(images + torch.zeros(16, 16, device=images.device))


def narrow(module, images, kind):
    found = module.features(images)
    return found if images.shape[-1] == 16 else found[:, :5]


def silent(module, size):
    raise ValueError


BROKEN = {
    "it-builds-with-random-weights": [
        ({"name": "acme/other"}, "the view is named 'acme/other', not 'acme/net'"),
        ({"weights": "good"}, "random weights are called 'good', not 'none'"),
        ({"licence": "MIT"}, "random weights bear the licence 'MIT'"),
    ],
    "stages-and-classifier-hold-each-parameter-once": [
        ({"classifier": ()}, "fc.bias, fc.weight lie in no stage"),
        ({"groups": NECK_FIRST}, "in the order stem, neck, stage, stage, not stem, stages, neck"),
        ({"classifier_modules": ("head",)}, "not in the network: head"),
    ],
    "an-image-passes-the-stages-in-order": [
        ({"groups": SWAPPED}, "listed as stem, stage2, stage1; an image passes stem, stage1, stage2"),
    ],
    "the-classifier-alone-changes-with-the-classes": [
        (NECK_AS_CLASSIFIER, "listed as classifier, but the classes do not change them: neck.bias, neck.weight"),
        ({"reset_classifier": reset_with_neck}, "changed or removed pretrained parameters: neck.bias, neck.weight"),
    ],
    "features-have-their-declared-widths": [
        ({"features": (FeatureKind(name="pooled", width=9),)}, "pooled features with the classifier have shape (2, 8)"),
        ({"features": (FeatureKind(name="tokens", width=8),)}, "not (2, tokens, 8)"),
    ],
    "without-classifier-the-network-gives-pooled-features": [
        ({"net": Normalises}, "the network gives (2, 5), not pooled features (2, 8)"),
    ],
    "a-new-classifier-gives-one-logit-a-class": [
        ({"net": WrongCount}, "in training it gives [(2, 20)], not (2, 10)"),
        ({"net": TwoAnswers}, "in training it gives [(2, 10), (2, 3, 16, 16)]"),
    ],
    "under-head-the-head-alone-trains": [
        ({"net": Thaws}, "frozen, but a gradient reaches backbone.stage1.0.weight"),
    ],
    "under-last-1-the-last-stage-alone-trains": [
        ({"net": Unused}, "trainable, but no gradient reaches backbone.stage2.spare"),
        ({"net": FeedsBack}, "what trains reaches frozen stages: stage1"),
        ({"net": Thaws}, "frozen, but a gradient reaches backbone.stage1.0.weight"),
    ],
    "under-last-2-the-two-last-stages-alone-train": [({"net": UnusedSecond}, "backbone.stage1.spare")],
    "under-none-a-gradient-reaches-every-parameter": [({"net": UnusedStem}, "backbone.stem.spare")],
    "a-training-step-moves-nothing-frozen": [
        ({"net": MovesStatistics}, "backbone.stage1.1.running_mean"),
    ],
    "it-describes-its-own-networks": [
        ({"describe": lambda module: None}, "describe does not know a network that build has built"),
        ({"describe": lambda module: view_of(module, SWAPPED)}, "describe gives other stages"),
        ({"describe": lambda module: view_of(module, features=())}, "describe gives other features"),
        ({"describe": lambda module: view_of(module, classifier=())}, "describe gives another classifier"),
    ],
    "the-list-states-what-is-built": [
        ({"entry": BackboneEntry(name="net", parameters=3)}, "listed with 3 parameters, built with 789"),
        ({"entry": BackboneEntry(name="net", input_size=8)}, "an input of 8 pixels, built for 16"),
        ({"entry": BackboneEntry(name="net", features=("cls",))}, "listed with features ('cls',)"),
    ],
    "its-input-layers-read-the-channels": [
        ({"input_layers": ("stem.conv",)}, "these input layers are not in the network: stem.conv"),
        ({"input_layers": ("neck",)}, "these input layers are no convolutions: neck"),
        ({"input_layers": ("stage1.0",)}, "these input layers do not read 3 channels: stage1.0"),
        ({"net": Two}, "with 4 channels: "),
    ],
    "another-size-is-taken-or-refused-with-a-reason": [
        ({"net": Rigid}, "a dimension of length 16"),
        ({"extract": narrow}, "32 x 32 pixels become features (2, 5), not of width 8"),
        ({"resize": lambda module, size: ""}, "resize says '', not what it did"),
        ({"resize": silent}, "resize refuses 32 x 32 pixels and gives no reason"),
    ],
}


def test_every_check_is_tested():
    assert BROKEN.keys() == CHECKS.keys()


@pytest.mark.parametrize(
    ("name", "fault", "message"), [(name, *broken) for name, faults in BROKEN.items() for broken in faults]
)
def test_the_check_catches_it(caught, name, fault, message):
    caught(backbone_checks(source(**fault), "net"), name, message)


def test_a_network_that_wakes_its_dropout_up_is_caught(caught):
    """It overrides `train`; freezing reaches each module by its class, but this one sets the flag behind its back."""
    caught(
        backbone_checks(source(StaysAwake), "net"),
        "under-head-the-head-alone-trains",
        "in training mode although frozen: stage1.2",
    )


def test_a_network_that_does_not_build_fails_the_first_check(caught):
    def build(model, tag):
        raise RuntimeError("no such file")

    broken = BackboneSource(name="acme", entries=lambda: [BackboneEntry(name="net")], build=build)
    caught(backbone_checks(broken, "net"), "it-builds-with-random-weights", "RuntimeError: no such file")


def test_an_encoder_that_refuses_a_classifier_has_no_classifier_to_check(ends):
    def encoder(module, outputs):
        if outputs:
            raise ZooError("an encoder has no place for a classifier")

    class Encoder(Net):
        def __init__(self):
            super().__init__()
            self.fc = nn.Identity()

    found = ends(backbone_checks(source(Encoder, reset_classifier=encoder), "net"))
    said = "skipped: an encoder has no place for a classifier"
    assert found == {
        "the-classifier-alone-changes-with-the-classes": said,
        "a-new-classifier-gives-one-logit-a-class": said,
        "it-describes-its-own-networks": UNDESCRIBED,
    }


def test_a_large_network_takes_no_real_step(result):
    class Large(Net):
        def __init__(self):
            super().__init__()
            self.stage1.ballast = nn.Parameter(torch.zeros(TRAINED))

    found = result(backbone_checks(source(Large), "net"), "a-training-step-moves-nothing-frozen")
    assert (found.outcome, found.message) == (
        "skipped",
        f"{TRAINED + 789:,} parameters; up to {TRAINED:,} take a real step",
    )


class TestImages:
    """Images with other channels and of another size."""

    CHANNELS = "its-input-layers-read-the-channels"
    SIZE = "another-size-is-taken-or-refused-with-a-reason"

    def test_a_network_of_grey_images(self, result):
        class Grey(Net):
            def __init__(self):
                super().__init__()
                self.stem = nn.Conv2d(1, 4, 3, stride=2)

        grey = InputSpec(size=(16, 16), resize=16, mean=(0.5,), std=(0.5,))
        found = result(backbone_checks(source(Grey, input=grey), "net"), self.CHANNELS)
        assert (found.outcome, found.message) == ("skipped", "it reads 1 and not 3 channels")

    def test_a_network_that_names_no_input_layers(self, result):
        found = result(backbone_checks(source(input_layers=()), "net"), self.CHANNELS)
        assert (found.outcome, found.message) == ("skipped", "it names no input layers")

    def test_a_network_that_can_be_resized_says_what_it_did(self, result):
        found = result(backbone_checks(source(resize=lambda module, size: "positions interpolated"), "net"), self.SIZE)
        assert found.outcome == "passed", found

    def test_a_refusal_with_a_reason(self, result):
        def resize(module, size):
            raise ValueError("no whole patches")

        assert result(backbone_checks(source(resize=resize), "net"), self.SIZE).outcome == "passed"

    def test_a_network_of_one_size_has_nothing_to_check(self, result):
        fixed = InputSpec(size=(16, 16), resize=16, fixed=True)
        assert result(backbone_checks(source(input=fixed), "net"), self.SIZE).outcome == "skipped"


HERE = Weights(tag="good", origin="wheel:torch", licence="MIT", input_size=16)


def with_weights(build_tag, **changes):
    """A source whose weights lie on this disk; `build_tag` makes the network of a tag."""

    def build(model, tag):
        torch.manual_seed(0)
        if tag is None:
            return view_of(Net())
        fields = {"weights": "good", "licence": "MIT", **changes}
        return view_of(build_tag(), **fields)

    return dataclasses.replace(source(entry=BackboneEntry(name="net", weights=(HERE,))), build=build)


def trained():
    net = Net()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.5)
    return net


def drawn_anew():
    torch.seed()
    return Net()


BROKEN_SOURCES = {
    "weights-on-this-disk-are-loaded": [
        (with_weights(Net), "net.good has the values of random weights: neck.weight, stage1.0.weight"),
        (with_weights(drawn_anew), "net.good is another network each time it is built"),
        (with_weights(trained, weights="none"), "net.good says that its weights are 'none'"),
        (with_weights(trained, licence=""), "net.good is listed as 'MIT' and built as ''"),
        (with_weights(trained, input=InputSpec(size=(8, 8), resize=8)), "listed for 16 pixels, built for 8"),
    ],
    "its-list-names-each-backbone-once": [
        ([], "lists nothing"),
        (["net"], "gave ['net'], which is no BackboneEntry"),
        ([BackboneEntry(name="net")] * 2, "listed twice: net"),
    ],
    "an-unknown-model-is-refused": [
        (lambda model, tag: None, "build('no-such-model', None) built something instead of raising"),
        (lambda model, tag: {}[model], "raises KeyError, not UnknownNameError"),
    ],
    "an-unknown-tag-is-refused": [
        (lambda model, tag: None, "build('net', 'no-such-tag') built something instead of raising WeightsError"),
    ],
    "exclusions-name-a-backbone-a-check-and-a-reason": [
        ({"other": {"it-builds-with-random-weights": "no"}}, "excluded, but not listed: other"),
        ({"net": {"no-such-check": "no"}}, "net is excluded from checks that there are not: no-such-check"),
        ({"net": {"it-builds-with-random-weights": " "}}, "net is excluded without a reason"),
    ],
}


class TestSources:
    def test_every_check_is_tested(self):
        assert BROKEN_SOURCES.keys() == SOURCE_CHECKS.keys()

    @pytest.mark.parametrize(("what", "message"), BROKEN_SOURCES["its-list-names-each-backbone-once"])
    def test_a_wrong_list(self, caught, what, message):
        broken = dataclasses.replace(source(), entries=lambda: what)
        caught(source_checks(broken), "its-list-names-each-backbone-once", message)

    def test_a_list_that_changes(self, caught):
        names = iter("abcdefgh")
        broken = dataclasses.replace(source(), entries=lambda: [BackboneEntry(name=next(names))])
        caught(source_checks(broken), "its-list-names-each-backbone-once", "lists other names the second time")

    @pytest.mark.parametrize(("broken", "message"), BROKEN_SOURCES["weights-on-this-disk-are-loaded"])
    def test_weights_that_are_not_loaded(self, caught, broken, message):
        caught(source_checks(broken), "weights-on-this-disk-are-loaded", message)

    def test_weights_that_are_loaded(self, result):
        assert result(source_checks(with_weights(trained)), "weights-on-this-disk-are-loaded").outcome == "passed"

    @pytest.mark.parametrize(("build", "message"), BROKEN_SOURCES["an-unknown-model-is-refused"])
    def test_a_model_that_is_not_there(self, caught, build, message):
        caught(source_checks(dataclasses.replace(source(), build=build)), "an-unknown-model-is-refused", message)

    def test_a_message_that_does_not_say_what_is_missing(self, caught):
        def build(model, tag):
            raise UnknownNameError("no")

        broken = dataclasses.replace(source(), build=build)
        caught(source_checks(broken), "an-unknown-model-is-refused", "does not say what is missing: no")

    @pytest.mark.parametrize(("build", "message"), BROKEN_SOURCES["an-unknown-tag-is-refused"])
    def test_a_tag_that_is_not_there(self, caught, build, message):
        caught(source_checks(dataclasses.replace(source(), build=build)), "an-unknown-tag-is-refused", message)

    @pytest.mark.parametrize(
        ("exclusions", "message"), BROKEN_SOURCES["exclusions-name-a-backbone-a-check-and-a-reason"]
    )
    def test_a_wrong_exclusion(self, caught, exclusions, message):
        broken = source(exclusions=exclusions)
        caught(source_checks(broken), "exclusions-name-a-backbone-a-check-and-a-reason", message)


def test_an_excluded_check_that_fails_is_excluded_and_one_that_holds_is_a_failure():
    name = "under-last-1-the-last-stage-alone-trains"
    reasons = {name: "one parameter is never used"}
    (check,) = [check for check in backbone_checks(source(Unused), "net") if check.name == name]
    assert (perform(check, reasons).outcome, perform(check, reasons).message) == ("excluded", reasons[name])
    (check,) = [check for check in backbone_checks(source(), "net") if check.name == name]
    found = perform(check, reasons)
    assert (found.outcome, found.message) == ("failed", f"it holds, so its exclusion is to be removed: {reasons[name]}")
