"""`zoo demo`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.cli.output import parse, write, write_json
from zoo.config import DemoConfig

if TYPE_CHECKING:
    from zoo.jobs.demo import Demo


def run(words: Sequence[str]) -> None:
    """Run the demo and print its figures beside the published ones."""
    config = parse(DemoConfig, "demo", words)
    from zoo.cli.train_command import show_run
    from zoo.jobs.demo import demo_json, run_demo
    from zoo.jobs.progress import Reporter

    demo = run_demo(config, Reporter(quiet=config.quiet))
    if config.json:
        write_json(demo_json(demo))
        return
    for results in demo.runs.values():
        show_run(results[0].run, results[0].metrics)
        write(f"  report      {results[0].folder}/report.html")
        write()
    _compare(demo)


def _compare(demo: Demo) -> None:
    from zoo.jobs.demo import CAVEAT, PUBLISHED, spread

    write("Accuracy on held-out cells, defective or functional:")
    rows = {f"{name}, published (Deitsch et al. 2019)": f"{value:.3f}" for name, value in PUBLISHED.items()}
    rows["backbone-zoo, frozen EfficientNet-Lite0"] = spread(demo.test("binary", "accuracy"))
    width = max(map(len, rows))
    for name, value in rows.items():
        write(f"  {name:<{width}}  {value}")
    write("Four classes with logit adjustment, on held-out cells:")
    for metric in ("balanced_accuracy", "macro_f1", "accuracy"):
        write(f"  {metric.replace('_', ' '):<{width}}  {spread(demo.test('four-classes', metric))}")
    totals = [result.run["seconds"]["total"] for results in demo.runs.values() for result in results]
    rest = f", each of the others {max(totals[1:]):.1f} s or less" if len(totals) > 1 else ""
    write(f"{len(totals)} runs: the first took {totals[0]:.1f} s{rest}.")
    write(CAVEAT)
    write("The images are CC BY-NC-SA 4.0: not for commercial use.")
