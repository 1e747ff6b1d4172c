"""`zoo demo`."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.cli.output import parse, write, write_json
from zoo.config import DemoConfig


def run(words: Sequence[str]) -> None:
    """Run the demo and print its figures beside the published ones."""
    from zoo.cli.train_command import show_run
    from zoo.jobs.demo import CAVEAT, PUBLISHED, demo_json, run_demo
    from zoo.jobs.progress import Reporter

    config = parse(DemoConfig, "demo", words)
    demo = run_demo(config, Reporter(quiet=config.quiet))
    if config.json:
        write_json(demo_json(demo))
        return
    for result in (demo.binary, demo.four):
        show_run(result.run, result.metrics)
        write(f"  report      {result.folder}/report.html")
        write()
    ours = demo.binary.metrics["defective"]["test"]
    write("accuracy on held-out cells, defective or functional:")
    rows = [*PUBLISHED, ("backbone-zoo, frozen EfficientNet-Lite0 and a linear head", ours["accuracy"])]
    for name, accuracy in rows:
        write(f"  {accuracy:7.2%}  {name}{'' if name == rows[-1][0] else ', published (Deitsch et al. 2019)'}")
    four = demo.four.metrics["defect"]["test"]["balanced_accuracy"]
    write(f"balanced accuracy, four classes, logit-adjust: {four:.3f}")
    write(CAVEAT)
    write("The images are CC BY-NC-SA 4.0: not for commercial use.")
