"""`zoo train`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from zoo.cli.output import parse, write, write_json
from zoo.config import ResumeConfig, TrainConfig
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.jobs.find_lr import FoundLr
    from zoo.jobs.planning import Plan
    from zoo.jobs.train import TrainResult
    from zoo.specs import Interval


def run(words: Sequence[str]) -> None:
    """Fine-tune and say what came of it."""
    if any(word == "--resume" or word.startswith("--resume=") for word in words):
        _refuse_test(words)
        again = parse(ResumeConfig, "train", words)
        from zoo.jobs.train import resume

        _show(resume(again.resume, quiet=again.quiet), as_json=again.json)
        return
    config = parse(TrainConfig, "train", words)
    from zoo.group import own_rank
    from zoo.jobs.progress import Reporter
    from zoo.jobs.train import explain_training, run_training

    if config.explain and not config.find_lr:
        show_plans(explain_training(config, Reporter(quiet=config.quiet)), as_json=config.json)
        return
    if config.find_lr:
        from zoo.jobs.find_lr import run_find_lr

        show_found(run_find_lr(config, Reporter(quiet=config.quiet)), as_json=config.json)
        return
    _show(run_training(config, Reporter(quiet=config.quiet or own_rank() > 0)), as_json=config.json)


def _refuse_test(words: Sequence[str]) -> None:
    if any(word.startswith(("--find-lr", "--find_lr")) for word in words):
        raise ZooError(
            "--find-lr tests learning rates before a run begins, and --resume goes on with one at its own; "
            "leave out one of them"
        )


def show_found(found: FoundLr, *, as_json: bool) -> None:
    """What a test of learning rates says, its suggestion last and ready to be pasted."""
    test = found.test
    if as_json:
        write_json(test)
        return
    last = test["rates"][-1] if test["rates"] else None
    ended = {
        "range": "the range ended",
        "exploded": "the loss was four times its best",
        "not finite": "the loss was not finite",
    }[test["ended"]]
    write(f"{test['backbone']} ({test['weights']}) on {test['data']}, --freeze {test['policy']}: learning rates")
    if last is not None:
        write(f"  tested      {test['rates'][0]:.2g} to {last:.2g} in {len(test['rates'])} steps, then {ended}")
    write(f"  curve       {found.why}")
    for note in test["notes"]:
        write(f"  note        {note}")
    write(f"  picture     {found.folder}/lr.png")
    write(f"suggested   {found.flags}" if found.flags else "suggested   nothing")


def _show(result: TrainResult, *, as_json: bool) -> None:
    from zoo.group import own_rank

    if own_rank() > 0:
        return
    if as_json:
        write_json({"run": str(result.folder), "metrics": result.metrics})
        return
    show_run(result.run, result.metrics)
    write(f"run folder  {result.folder}   (open {result.folder}/report.html)")


def show_plans(plans: Sequence[tuple[Interval, Plan]], *, as_json: bool) -> None:
    """Every way in which each interval of a run could compute, what it would cost, and why one is taken."""
    from zoo.features.plan import table

    if as_json:
        write_json([plan_json(interval, plan) for interval, plan in plans])
        return
    for interval, plan in plans:
        if len(plans) > 1:
            write(f"epochs {interval.start + 1} to {interval.stop}: {interval.policy.text}")
        write("\n".join(table(plan.found)))
        for decision in plan.decisions:
            write(f"  {decision.what}: {decision.choice} ({decision.why})")


def plan_json(interval: Interval, plan: Plan) -> dict[str, Any]:
    """An interval, every way in which it could compute, and what was decided; JSON values."""
    return {
        "epochs": [interval.start + 1, interval.stop],
        "policy": interval.policy.text,
        "alternatives": [asdict(each) for each in plan.found],
        "decisions": list(map(asdict, plan.decisions)),
    }


def _epochs(run: Mapping[str, Any]) -> str:
    """Of how many epochs one was kept: fewer than were asked for, or those of the last interval alone."""
    training, intervals = run["training"], run["freeze"]["intervals"]
    asked = training["epochs"]
    ran = training.get("epochs_run", asked)
    early = f" (stopped early; {asked} were asked for)" if ran < asked and training.get("patience") else ""
    among = ", among those of the last interval" if len(intervals) > 1 else ""
    return f"{ran if early else asked}{early}{among}"


def show_run(run: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """A run in a dozen lines."""
    from zoo.cli.figures import poorest_line
    from zoo.report.scores import figures

    data, training, seconds = run["data"], run["training"], run["seconds"]
    write(f"{run['backbone']['name']} ({run['backbone']['tag']}) on {data['name']}, --freeze {run['freeze']['policy']}")
    write(f"  rows        {data['splits']['how']}")
    for warning in [*data["warnings"], *data["notes"]]:
        write(f"  note        {warning}")
    for decision in run["decisions"]:
        if decision["what"] != "split":
            write(f"  {decision['what']}: {decision['choice']} ({decision['why']})")
    for answer in run["imbalance"]:
        share = f"; training corrects {answer['corrected']:.0%} of the imbalance"
        write(f"  imbalance of {answer['target']}: {answer['strategy']}{share}")
    write(f"  frozen      {run['freeze']['verified']}")
    write(f"  best epoch  {training['best_epoch']} of {_epochs(run)} by {training['metric']} on val rows")
    parts = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items() if name != "total")
    write(f"  time        {seconds['total']:.1f} s ({parts})")
    for task, by_split in metrics.items():
        for split, scores in by_split.items():
            write(f"  {task}, {split}: {figures(scores)}")
            if line := poorest_line(scores):
                write(f"    {line}")
            if bare := run.get("without_covariates", {}).get(task, {}).get(split):
                write(f"    without covariates: {figures(bare)}")
