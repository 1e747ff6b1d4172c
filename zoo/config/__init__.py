"""What each command takes: one frozen dataclass a command, from which the command line and its help are made."""

from zoo.config.advice import AdviseConfig, InspectConfig
from zoo.config.bench import BenchConfig
from zoo.config.cache import CacheConfig
from zoo.config.choosing import InfoConfig, ListConfig, PluginsConfig
from zoo.config.comparing import CompareConfig
from zoo.config.export import ExportConfig
from zoo.config.kit import CheckConfig, NewPluginConfig
from zoo.config.ranking import PlanConfig, RankConfig
from zoo.config.runs import ResumeConfig, TrainConfig
from zoo.config.using import DemoConfig, EvaluateConfig, PredictConfig

__all__ = [
    "AdviseConfig",
    "BenchConfig",
    "CacheConfig",
    "CheckConfig",
    "CompareConfig",
    "DemoConfig",
    "EvaluateConfig",
    "ExportConfig",
    "InfoConfig",
    "InspectConfig",
    "ListConfig",
    "NewPluginConfig",
    "PlanConfig",
    "PluginsConfig",
    "PredictConfig",
    "RankConfig",
    "ResumeConfig",
    "TrainConfig",
]
