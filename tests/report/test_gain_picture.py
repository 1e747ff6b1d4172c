from zoo.report.gain_picture import gain_picture

GAIN = {"mean": 0.1, "spread": 0.02, "reach": 0.03, "clear": True}


def row(name, gain):
    return {"strategy": name, "val_gain": gain, "test_gain": gain}


def test_it_is_a_picture_whatever_strategies_and_classes_are_called():
    metric = "recall($a_{)"
    rows = [row("none", {}), row("class-weights(weights={$x: 1, \\y$: 2})" * 3, {metric: GAIN})]
    rows += [row("alone", {metric: {**GAIN, "spread": None, "reach": None}}), row("undefined", {"other": GAIN})]
    for strategies in (rows, rows[:1]):
        assert gain_picture({"strategies": strategies, "metric": metric}).startswith(b"\x89PNG")
