"""Records, tasks and grammars: the words that the core and its plugins share. Imports nothing heavy."""

from zoo.specs.adapters import Lora, adapted_names, adapter_size, is_adapter, plain_name
from zoo.specs.binding import NoParameters, bind, parameters_of
from zoo.specs.blocks import block_depths, block_modules
from zoo.specs.datasets import DatasetRecord, DatasetTable, Roles
from zoo.specs.generators import FittedGenerator, GeneratorRecord
from zoo.specs.grammar import Argument, Call, parse_assignment, parse_options, parse_terms
from zoo.specs.holes import HOLE_KINDS, HoleKind, Holes
from zoo.specs.images import ImageRows, TrainImages
from zoo.specs.kinds import TargetKind, parse_kinds
from zoo.specs.phases import Phase, Timeline
from zoo.specs.plans import EXCLUSIVE_SLOTS, Plan, Tail
from zoo.specs.policies import FreezePolicy, parse_policy
from zoo.specs.records import (
    API_VERSION,
    BackboneEntry,
    BackboneSource,
    DrawingImputer,
    FittedImageImputer,
    FittedImputer,
    HeadRecord,
    ImputerRecord,
    RowNoise,
    StrategyRecord,
    Weights,
)
from zoo.specs.schedules import FreezeSchedule, Interval, parse_schedule
from zoo.specs.tasks import Batch, Target, Task, TaskKind
from zoo.specs.training import ClassStatistics, CovariateColumns, TrainView
from zoo.specs.views import BackboneView, FeatureKind, InputSpec, Layout, PixelType, Stage, partition

__all__ = [
    "API_VERSION",
    "EXCLUSIVE_SLOTS",
    "HOLE_KINDS",
    "Argument",
    "BackboneEntry",
    "BackboneSource",
    "BackboneView",
    "Batch",
    "Call",
    "ClassStatistics",
    "CovariateColumns",
    "DatasetRecord",
    "DatasetTable",
    "DrawingImputer",
    "FeatureKind",
    "FittedGenerator",
    "FittedImageImputer",
    "FittedImputer",
    "FreezePolicy",
    "FreezeSchedule",
    "GeneratorRecord",
    "HeadRecord",
    "HoleKind",
    "Holes",
    "ImageRows",
    "ImputerRecord",
    "InputSpec",
    "Interval",
    "Layout",
    "Lora",
    "NoParameters",
    "Phase",
    "PixelType",
    "Plan",
    "Roles",
    "RowNoise",
    "Stage",
    "StrategyRecord",
    "Tail",
    "Target",
    "TargetKind",
    "Task",
    "TaskKind",
    "Timeline",
    "TrainImages",
    "TrainView",
    "Weights",
    "adapted_names",
    "adapter_size",
    "bind",
    "block_depths",
    "block_modules",
    "is_adapter",
    "parameters_of",
    "parse_assignment",
    "parse_kinds",
    "parse_options",
    "parse_policy",
    "parse_schedule",
    "parse_terms",
    "partition",
    "plain_name",
]
