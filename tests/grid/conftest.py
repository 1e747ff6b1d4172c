import textwrap

import pytest

TASKS = '''
import os, random, signal, subprocess, sys, time


def double(parameters, seed):
    with open(parameters["log"], "a") as file:
        file.write("x")
    return {"value": 2 * parameters["x"], "seed": seed}


def draw(parameters, seed):
    import numpy

    return [random.random(), float(numpy.random.random())]


def fail(parameters, seed):
    print("what the task wrote")
    raise ValueError(f"no {parameters['x']}\\nplease")


def leave(parameters, seed):
    sys.exit(3)


def die(parameters, seed):
    os.write(2, b"last words")
    os._exit(4)


def killed(parameters, seed):
    os.kill(os.getpid(), signal.SIGKILL)


def hang(parameters, seed):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with open(parameters["log"], "w") as file:
        file.write(str(child.pid))
    time.sleep(60)


def fill(parameters, seed):
    held = []
    while True:
        held.append(bytearray(os.urandom(2**20)) * 16)


def odd_text(parameters, seed):
    return {"text": "a\\u2028b\\x85c", "name": os.fsdecode(b"caf\\xe9.jpg")}


def odd_error(parameters, seed):
    raise ValueError(os.fsdecode(b"caf\\xe9.jpg"))


def leave_child(parameters, seed):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with open(parameters["log"], "w") as file:
        file.write(str(child.pid))
    return "done"


def killed_with_child(parameters, seed):
    if os.fork() == 0:
        time.sleep(60)  # holds the pipe open
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def not_json(parameters, seed):
    return float("nan")


held = []


def count(parameters, seed):
    """How many cells this process has computed; some end it on the way."""
    held.append(parameters["x"])
    print("cell", parameters["x"])
    if parameters["ends"] == "dies":
        os._exit(4)
    if parameters["ends"] == "raises":
        raise ValueError("no")
    if parameters["ends"] == "fills":
        raise MemoryError("full")
    if parameters["ends"] == "hangs":
        time.sleep(60)
    return [os.getpid(), len(held)]


def slow(parameters, seed):
    time.sleep(parameters["x"])
    return parameters["x"]
'''


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """Name of a module with tasks that every process of the grid can import."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "grid_tasks.py").write_text(textwrap.dedent(TASKS), encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    return "grid_tasks"
