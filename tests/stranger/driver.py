"""Runs commands of zoo one after the other in one process, because each process that imports torch costs seconds.

Standard input holds JSON, a list of lists of words; the file that the one argument names gets code, output and errors
of each command. What a plugin prints past `sys.stdout` goes where it always goes.
"""

import contextlib
import io
import json
import sys
from pathlib import Path


def run(words):
    from zoo.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps([run(words) for words in json.load(sys.stdin)]))
