"""What the generators can be told."""

from __future__ import annotations

from dataclasses import dataclass, field


def _positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if number <= 0:
            raise ValueError(f"{name} must be positive, not {number}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Gaussian:
    """Parameters of `gaussian`.

    Attributes:
        shared: whether all classes have one covariance, that of the rows about their class's mean, as in linear
            discriminant analysis; else each has its own, which takes two rows at least.
    """

    shared: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Vae:
    """Parameters of `vae`.

    Attributes:
        latent: dimensions of the code.
        width: of the hidden layers.
        epochs: passes over the rows, classes drawn alike.
        lr: learning rate of Adam.
    """

    latent: int = 16
    width: int = 256
    epochs: int = field(default=100, metadata={"trial": 40, "brief": 2, "examples": (2, 3)})
    lr: float = 1e-3

    def __post_init__(self) -> None:
        _positive(latent=self.latent, width=self.width, epochs=self.epochs, lr=self.lr)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gan:
    """Parameters of `gan`.

    Attributes:
        noise: numbers that a row is made of.
        width: of the hidden layers.
        steps: of the generator, before each of which the critic makes five, as in the paper.
        lr: learning rate of Adam, whose betas are 0 and 0.9, as in the paper; larger than there, for fewer steps.
    """

    noise: int = 64
    width: int = 256
    steps: int = field(default=120, metadata={"brief": 2, "examples": (2, 3)})
    lr: float = 1e-3

    def __post_init__(self) -> None:
        _positive(noise=self.noise, width=self.width, steps=self.steps, lr=self.lr)


@dataclass(frozen=True, kw_only=True, slots=True)
class Diffusion:
    """Parameters of `diffusion`.

    Attributes:
        side: of the pictures, in pixels: a multiple of 4. Larger ones take longer, by the square.
        width: channels of the first level of the network; the others have twice as many. A multiple of 8.
        steps: of training.
        batch: pictures of each.
        draws: steps from noise to a picture.
        lr: learning rate of AdamW, which falls to nothing.
        ema: decay of the average of the weights that draws.
    """

    side: int = field(default=32, metadata={"trial": 4, "examples": (8,)})
    width: int = field(default=16, metadata={"trial": 8, "examples": (8, 16)})
    steps: int = field(default=1000, metadata={"trial": 60, "brief": 2, "examples": (2, 3)})
    batch: int = field(default=64, metadata={"trial": 32, "examples": (8, 16)})
    draws: int = field(default=25, metadata={"trial": 8, "examples": (2, 3)})
    lr: float = field(default=1e-3, metadata={"trial": 1e-2})
    ema: float = field(default=0.995, metadata={"trial": 0.8})

    def __post_init__(self) -> None:
        _positive(side=self.side, width=self.width, steps=self.steps, batch=self.batch, draws=self.draws, lr=self.lr)
        for name, number, factor in (("side", self.side, 4), ("width", self.width, 8)):
            if number % factor:
                raise ValueError(f"{name} must be a multiple of {factor}, not {number}")
        if not 0.0 <= self.ema < 1.0:
            raise ValueError(f"ema must lie in [0, 1), not {self.ema}")
