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
    epochs: int = field(default=100, metadata={"examples": (2, 3)})
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
    steps: int = field(default=120, metadata={"examples": (2, 3)})
    lr: float = 1e-3

    def __post_init__(self) -> None:
        _positive(noise=self.noise, width=self.width, steps=self.steps, lr=self.lr)
