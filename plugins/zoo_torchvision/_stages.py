"""Where each family of torchvision keeps its stages and its classifier.

torchvision's networks say nothing about their own structure, so it is written down here once per class; what depends on
the variant (number of blocks, where a VGG downsamples) is read off the built network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn

from zoo.specs.views import StageRole

Group = tuple[str, StageRole, list[str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """What is common to the networks of one class.

    Attributes:
        groups: stem, stages and neck of a built network, as `zoo.specs.partition` takes them.
        classifier: path of the classifier.
        lone: whether the classifier's parent holds nothing else that was pretrained; users may replace it whole.
        conv: whether the classifier is a 1x1 convolution before the pooling.
        bias: whether the classifier has a bias.
        width: of the pooled features where the last pretrained parameter does not tell, else None.
        auxiliary: (attribute, layer within it) of each auxiliary classifier; the first is taken off whole.
        size, resize: of the input where the pretrained weights cannot be told.
        fixed: whether the network refuses other sizes.
        class_token: whether the pooled features are those of the class token.
    """

    groups: Callable[[nn.Module], list[Group]]
    classifier: str
    lone: bool = False
    conv: bool = False
    bias: bool = True
    width: int | None = None
    auxiliary: tuple[tuple[str, str], ...] = ()
    size: int = 224
    resize: int = 256
    fixed: bool = False
    class_token: bool = False


def _stages(paths: Iterable[list[str]], name: str = "stage", first: int = 1) -> list[Group]:
    return [(f"{name}{index}", "stage", held) for index, held in enumerate(paths, first)]


def _children(module: nn.Module, path: str) -> list[tuple[str, nn.Module]]:
    return [(f"{path}.{name}", child) for name, child in module.get_submodule(path).named_children()]


def _downsamples(module: nn.Module) -> bool:
    if isinstance(module, nn.MaxPool2d):
        return True
    return any(isinstance(layer, nn.Conv2d) and max(layer.stride) > 1 for layer in module.modules())


def _by_resolution(module: nn.Module, path: str, neck: int) -> list[list[str]]:
    """The children of `path`, cut where the resolution falls; the last `neck` of them are the last group."""
    children = _children(module, path)
    body, tail = (children[:-neck], children[-neck:]) if neck else (children, [])
    groups: list[list[str]] = [[]]
    for index, (name, child) in enumerate(body):
        if index and _downsamples(child):
            groups.append([])
        groups[-1].append(name)
    return [*groups, [name for name, _ in tail]]


def _by_resolution_with(path: str, neck: int, *more: str) -> Callable[[nn.Module], list[Group]]:
    def groups(module: nn.Module) -> list[Group]:
        stem, *stages, tail = _by_resolution(module, path, neck)
        while stages and not any(True for name in stages[-1] for _ in module.get_submodule(name).parameters()):
            tail = [*stages.pop(), *tail]  # the last pooling of AlexNet and VGG
        made: list[Group] = [("stem", "stem", stem), *_stages(stages)]
        held = [*tail, *more]
        return [*made, ("neck", "neck", held)] if held else made

    return groups


def _fixed(**paths: str) -> Callable[[nn.Module], list[Group]]:
    """Stages by name, each with its paths in one string; `stem` and `neck` have their own roles."""
    roles: dict[str, StageRole] = {"stem": "stem", "neck": "neck"}
    made: list[Group] = [(name, roles.get(name, "stage"), held.split()) for name, held in paths.items()]
    return lambda module: made


def _densenet(module: nn.Module) -> list[Group]:
    groups: list[Group] = [("stem", "stem", [])]
    for path, _ in _children(module, "features"):
        name = path.rpartition(".")[2]
        if name.startswith("denseblock"):
            waiting = groups.pop()[2] if groups[-1][0] == "transition" else []
            groups.append((name, "stage", [*waiting, path]))
        elif name.startswith("transition"):
            groups.append(("transition", "stage", [path]))
        elif name == "norm5":
            groups.append(("neck", "neck", [path]))
        else:
            groups[0][2].append(path)
    return groups


def _patch_pairs(neck: str) -> Callable[[nn.Module], list[Group]]:
    """A stem, one stage, then pairs of a downsampling layer and a stage (ConvNeXt, Swin)."""

    def groups(module: nn.Module) -> list[Group]:
        paths = [path for path, _ in _children(module, "features")]
        stages = [paths[1:2], *(paths[index : index + 2] for index in range(2, len(paths), 2))]
        return [("stem", "stem", paths[:1]), *_stages(stages), ("neck", "neck", [neck])]

    return groups


def _vit(module: nn.Module) -> list[Group]:
    layers = [[path] for path, _ in _children(module, "encoder.layers")]
    stem = ["class_token", "conv_proj", "encoder.pos_embedding", "encoder.dropout"]
    return [
        ("stem", "stem", stem),
        *_stages(layers, "block", 0),
        ("neck", "neck", ["encoder.ln", "heads.pre_logits"]),
    ]


_INCEPTION_3 = _fixed(
    stem="Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3",
    stage1="maxpool1 Conv2d_3b_1x1 Conv2d_4a_3x3",
    stage2="maxpool2 Mixed_5b Mixed_5c Mixed_5d",
    stage3="Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e",
    stage4="Mixed_7a Mixed_7b Mixed_7c",
)
_GOOGLENET = _fixed(
    stem="conv1",
    stage1="maxpool1 conv2 conv3",
    stage2="maxpool2 inception3a inception3b",
    stage3="maxpool3 inception4a inception4b inception4c inception4d inception4e",
    stage4="maxpool4 inception5a inception5b",
)
_RESNET = _fixed(stem="conv1 bn1 relu", layer1="maxpool layer1", layer2="layer2", layer3="layer3", layer4="layer4")
_REGNET = _fixed(stem="stem", **{f"block{index}": f"trunk_output.block{index}" for index in range(1, 5)})
_SHUFFLENET = _fixed(stem="conv1", stage2="maxpool stage2", stage3="stage3", stage4="stage4", neck="conv5")
_MAXVIT = _fixed(
    stem="stem",
    **{f"stage{index + 1}": f"blocks.{index}" for index in range(4)},
    neck="classifier.2 classifier.3 classifier.4",
)
_FULLY_CONNECTED = Family(
    groups=_by_resolution_with(
        "features", 0, "avgpool", "classifier.0", "classifier.1", "classifier.3", "classifier.4"
    ),
    classifier="classifier.6",
)

FAMILIES: dict[str, Family] = {
    "alexnet.AlexNet": _FULLY_CONNECTED,
    "vgg.VGG": _FULLY_CONNECTED,
    "squeezenet.SqueezeNet": Family(
        groups=_by_resolution_with("features", 0), classifier="classifier.1", conv=True, width=512
    ),
    "resnet.ResNet": Family(groups=_RESNET, classifier="fc"),
    "regnet.RegNet": Family(groups=_REGNET, classifier="fc"),
    "densenet.DenseNet": Family(groups=_densenet, classifier="classifier"),
    "googlenet.GoogLeNet": Family(
        groups=_GOOGLENET, classifier="fc", width=1024, auxiliary=(("aux1", "fc2"), ("aux2", "fc2"))
    ),
    "inception.Inception3": Family(
        groups=_INCEPTION_3, classifier="fc", width=2048, auxiliary=(("AuxLogits", "fc"),), size=299, resize=342
    ),
    "mnasnet.MNASNet": Family(groups=_by_resolution_with("layers", 3), classifier="classifier.1", lone=True),
    "mobilenetv2.MobileNetV2": Family(groups=_by_resolution_with("features", 1), classifier="classifier.1", lone=True),
    "mobilenetv3.MobileNetV3": Family(
        groups=_by_resolution_with("features", 1, "classifier.0", "classifier.1"), classifier="classifier.3"
    ),
    "shufflenetv2.ShuffleNetV2": Family(groups=_SHUFFLENET, classifier="fc"),
    "efficientnet.EfficientNet": Family(
        groups=_by_resolution_with("features", 1), classifier="classifier.1", lone=True
    ),
    "convnext.ConvNeXt": Family(groups=_patch_pairs("classifier.0"), classifier="classifier.2"),
    "swin_transformer.SwinTransformer": Family(groups=_patch_pairs("norm"), classifier="head"),
    "vision_transformer.VisionTransformer": Family(
        groups=_vit, classifier="heads.head", lone=True, fixed=True, class_token=True
    ),
    "maxvit.MaxVit": Family(groups=_MAXVIT, classifier="classifier.5", bias=False, resize=224, fixed=True),
}


def family_of(module: nn.Module) -> Family | None:
    """The family of a network that torchvision's own class built, or None."""
    cls = type(module)
    package, _, name = cls.__module__.rpartition(".")
    return FAMILIES.get(f"{name}.{cls.__qualname__}") if package == "torchvision.models" else None
