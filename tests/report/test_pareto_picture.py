"""The picture of a ranking is a PNG, the same for the same figures, whatever the number of points."""

import pytest

from zoo.report.pareto_picture import pareto_picture


@pytest.mark.parametrize("count", [1, 40])
def test_it_is_drawn(count):
    points = [(f"timm/net_{at}", 10.0 + at, 0.9 - at / 100, 0.02) for at in range(count)]
    first = pareto_picture(points, {"timm/net_0"}, "balanced_accuracy")
    assert first.startswith(b"\x89PNG")
    assert pareto_picture(points, {"timm/net_0"}, "balanced_accuracy") == first
    assert pareto_picture(points, {name for name, *_ in points}, "balanced_accuracy") != first or count == 1
