"""What each command takes: one frozen dataclass a command, from which the command line and its help are made."""

from zoo.config.bench import BenchConfig
from zoo.config.cache import CacheConfig
from zoo.config.choosing import InfoConfig, ListConfig, PluginsConfig
from zoo.config.export import ExportConfig
from zoo.config.kit import CheckConfig, NewPluginConfig
from zoo.config.runs import DemoConfig, EvaluateConfig, PredictConfig, ResumeConfig, TrainConfig

__all__ = [
    "BenchConfig",
    "CacheConfig",
    "CheckConfig",
    "DemoConfig",
    "EvaluateConfig",
    "ExportConfig",
    "InfoConfig",
    "ListConfig",
    "NewPluginConfig",
    "PluginsConfig",
    "PredictConfig",
    "ResumeConfig",
    "TrainConfig",
]
