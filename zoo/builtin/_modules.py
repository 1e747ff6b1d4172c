"""The networks of the core's heads; the functions that build heads import this module, nothing light does."""

from __future__ import annotations

import math

import torch  # noqa: TID253  see above
import torch.nn.functional as F  # noqa: TID253
from torch import Tensor, nn  # noqa: TID253


def linear(in_features: int, outputs: int, *, dropout: float = 0.0) -> nn.Module:
    """One linear layer, after dropout where there is some."""
    layer = _zeros(nn.Linear(in_features, outputs))
    return nn.Sequential(nn.Dropout(dropout), layer) if dropout else layer


def mlp(in_features: int, outputs: int, *, hidden: int, layers: int, dropout: float = 0.0) -> nn.Module:
    """Hidden layers of GELU units, then a linear layer.

    No normalisation stands between them, because features come in standardised: on ELPV, over two splits, a LayerNorm
    before GELU gave a validation log loss of 0.822 against 0.797, and a balanced accuracy of 0.575 against 0.571.
    """
    parts: list[nn.Module] = []
    width = in_features
    for _ in range(layers):
        layer = nn.Linear(width, hidden)
        # He et al. 2015, so that units of standardised features have the variance that GELU is made for.
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
        parts += [layer, nn.GELU(), nn.Dropout(dropout)]
        width = hidden
    return nn.Sequential(*parts, _zeros(nn.Linear(width, outputs)))


def _zeros(layer: nn.Linear) -> nn.Linear:
    """A last layer of zeros: every class equally probable at step 0, whatever the features, so no run starts unlucky.

    Layers before it get their first gradient at step 1, when it is no longer zero.
    """
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class CosineHead(nn.Module):
    """Logits that are `scale` times the cosine between the features and one learned direction a class.

    Gidaris and Komodakis 2018, "Dynamic few-shot visual learning without forgetting" (arXiv:1804.09458), who learn the
    scale from 10 on. The length of the features says nothing here, and rare classes get no shorter weights.
    """

    def __init__(self, in_features: int, outputs: int, *, scale: float, learn_scale: bool) -> None:
        super().__init__()
        # One random direction for all classes: it cannot be zero, but so every class is equally probable at step 0.
        direction = torch.randn(1, in_features) / math.sqrt(in_features)
        self.weight = nn.Parameter(direction.repeat(outputs, 1))
        self.scale = scale
        # How much larger the scale has become, as a logarithm: it stays positive and moves in proportion. A row of one
        # number, because several processes divide a parameter by its rows.
        self.log_gain = nn.Parameter(torch.zeros(1)) if learn_scale else None

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_features) to logits (B, outputs)."""
        cosines = F.linear(F.normalize(features, dim=-1), F.normalize(self.weight, dim=-1))
        logits = self.scale * cosines
        return logits if self.log_gain is None else logits * self.log_gain.exp()


class AttentionHead(nn.Module):
    """A learned query attends over the tokens, each of its heads with its own weights; a linear layer follows.

    The attentive probe of frozen features in CoCa (Yu et al. 2022, arXiv:2205.01917, section 3.2), V-JEPA (Bardes et
    al. 2024, arXiv:2404.08471) and AIM (El-Nouby et al. 2024, arXiv:2401.08541, section 4), of which this is the
    plainest: keys and values are linear in the tokens, and neither a perceptron nor a residual path follows.
    """

    def __init__(self, in_features: int, outputs: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        width = -(-in_features // heads)  # of one attention head, rounded up: covariates may join the tokens
        self.heads = heads
        # So small a query weighs all tokens alike: the head begins as a linear layer on their mean.
        self.query = nn.Parameter(0.02 * torch.randn(heads, 1, width))
        self.key = nn.Linear(in_features, heads * width)
        self.value = nn.Linear(in_features, heads * width)
        for layer in (self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.dropout = nn.Dropout(dropout)
        self.classifier = _zeros(nn.Linear(heads * width, outputs))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, tokens, in_features) to logits (B, outputs)."""
        keys, values = (self._split(layer(tokens)) for layer in (self.key, self.value))
        query = self.query.expand(tokens.shape[0], -1, -1, -1)  # len() would fix the batch of an exported graph
        pooled = F.scaled_dot_product_attention(query, keys, values)
        logits: Tensor = self.classifier(self.dropout(pooled.flatten(1)))
        return logits

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, tokens, heads x width) to (B, heads, tokens, width)."""
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)


class EnsembleHead(nn.Module):
    """Linear members whose probabilities are averaged; logits are the logarithms of the mean."""

    def __init__(self, in_features: int, outputs: int, *, members: int) -> None:
        super().__init__()
        # Members that begin alike would stay alike; so small weights leave all classes about equally probable.
        self.weight = nn.Parameter(1e-3 * torch.randn(members, outputs, in_features) / math.sqrt(in_features))
        self.bias = nn.Parameter(torch.zeros(members, outputs))

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_features) to logits (B, outputs)."""
        logits = torch.einsum("bd,mkd->mbk", features, self.weight) + self.bias[:, None]
        return _mean_of(logits)


class TreesHead(nn.Module):
    """Boosted complete trees: a member adds up the votes of the leaves that a row falls into; members are averaged.

    A row goes left where its feature is at most the threshold; the nodes below node i are 2i + 1 and 2i + 2. Only votes
    have a gradient.
    """

    feature: Tensor
    threshold: Tensor

    def __init__(self, in_features: int, outputs: int, *, members: int, rounds: int, depth: int) -> None:
        super().__init__()
        inner = 2**depth - 1
        self.depth = depth
        # One feature and threshold a node at random, as in extremely randomised trees (Geurts et al. 2006).
        self.register_buffer("feature", torch.randint(in_features, (members, rounds, inner)))
        self.register_buffer("threshold", torch.randn(members, rounds, inner))
        self.value = nn.Parameter(torch.zeros(members, rounds, inner + 1, outputs))

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_features) to logits (B, outputs)."""
        members, rounds, inner = self.feature.shape
        trees = members * rounds
        above = features[:, self.feature.view(trees * inner)] > self.threshold.view(trees * inner)
        goes = above.view(-1, trees, inner)
        node = torch.zeros(goes.shape[:2], dtype=torch.int64, device=features.device)
        for _ in range(self.depth):
            node = 2 * node + 1 + goes.gather(2, node[:, :, None])[:, :, 0]
        votes = self.value.view(trees, inner + 1, -1)[torch.arange(trees, device=node.device), node - inner]
        return _mean_of(votes.view(len(features), members, rounds, -1).sum(dim=2).transpose(0, 1))


def _mean_of(logits: Tensor) -> Tensor:
    """Logits (M, B, K) of members to those of their mean probabilities (B, K)."""
    return logits.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(logits))
