"""The command line `zoo`: finds the command, parses its options, and turns errors into one clear message.

Only the command that is asked for is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from zoo.errors import IntegrityError, ZooError

COMMANDS = {
    "list": "list backbones",
    "info": "show one backbone: stages, parameters, input, weights",
    "check": "check that backbones and plugins keep the contract",
    "plugins": "list the installed plugins and what failed to load",
    "new-plugin": "write a plugin that installs and passes its checks",
    "inspect": "look at data: what is missing where, files that cannot be read, labels, equal files",
    "rank": "rank backbones on your own images, with their speed and memory here",
    "plan": "say what a run would cost before anything is trained",
    "train": "fine-tune a backbone on images and leave a run folder",
    "evaluate": "score a run on labelled data",
    "predict": "predict the classes of images with a run",
    "compare": "try strategies against class imbalance over several seeds, beside plain training",
    "export": "write a run as ONNX, a torch program or safetensors, with a model card",
    "advise": "say which class needs more images, and find near-duplicates and doubtful labels",
    "bench": "measure how fast backbones fine-tune here, under each freeze policy",
    "cache": "show what the cache holds, or clear it",
    "demo": "fine-tune on real solar-cell images, offline, beside published figures",
}

HELP = """usage: zoo COMMAND [OPTIONS]

Fine-tune any image backbone on real data.

commands:
{commands}

`zoo COMMAND --help` shows what a command takes. --debug before the command shows tracebacks.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for a request that cannot be met, 130 after Ctrl-C."""
    try:
        code = _dispatch(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_left("\n"):
            raise  # another pipe broke, such as one to a worker
        return 0
    except SystemExit:  # the parser of options, after its help or its error
        _reader_left("")
        raise
    return code


def _reader_left(probe: str) -> bool:
    """Whether nobody reads standard output any more, as in `zoo list | head`; what is still to come is then dropped."""
    try:
        sys.stdout.write(probe)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _dispatch(words: list[str]) -> int:
    debug = bool(words) and words[0] == "--debug"
    words = words[debug:]
    if not words or words[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        sys.stdout.write(HELP.format(commands="\n".join(f"  {n:<{width}}  {text}" for n, text in COMMANDS.items())))
        return 0 if words else 2
    if words[0] in ("--version", "version"):
        from zoo import __version__

        sys.stdout.write(f"backbone-zoo {__version__}\n")
        return 0
    return _run(words[0], words[1:], debug=debug)


def _run(command: str, words: list[str], *, debug: bool) -> int:
    if command not in COMMANDS:
        import difflib

        close = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        sys.stderr.write(f"zoo: unknown command {command!r}; there are {', '.join(COMMANDS)}{hint}\n")
        return 2
    try:
        code: int | None = import_module(f"zoo.cli.{command.replace('-', '_')}_command").run(words)
    except (ZooError, IntegrityError) as error:
        if debug:
            raise
        # Of several processes that torchrun started, all but the first say which they are.
        rank = os.environ.get("RANK", "0")
        sys.stderr.write(f"zoo {command}{'' if rank == '0' else f', process {rank}'}: {error}\n")
        return error.exit_code if isinstance(error, ZooError) else 1
    except KeyboardInterrupt:
        if debug:
            raise
        sys.stderr.write(f"\nzoo {command}: stopped; what was computed before stays in the cache\n")
        return 130
    return code or 0
