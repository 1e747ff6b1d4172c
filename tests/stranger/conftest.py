"""Environments into which plugins are really installed by pip, without a network and without torch's two gigabytes.

Each is a virtual environment of its own that also sees what is installed where the tests run: zoo, torch and pip.
"""

import contextlib
import json
import os
import shlex
import site
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HERE = Path(__file__).parent
HEAVY = "torchvision,timm,lite"
"""Our own sources, switched off: listing them takes seconds, and other tests do it."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


class Environment:
    """A virtual environment with plugins of its own."""

    def __init__(self, root):
        self.root = root
        venv.create(root / "env", with_pip=False)
        self.python = root / "env" / "bin" / "python"
        (found,) = (root / "env" / "lib").glob("python*/site-packages")
        parents = [folder for folder in site.getsitepackages() if Path(folder).is_dir()]
        (found / "parents.pth").write_text("".join(f"import site; site.addsitedir({p!r})\n" for p in parents))
        own = {"ZOO_CACHE": str(root / "cache"), "ZOO_DISABLE": HEAVY, "OMP_NUM_THREADS": "2"}
        self.variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | own

    def run(self, *words, code=0, **options):
        """A process in the environment; fails unless it ends with `code`."""
        command = [str(word) for word in words]
        done = subprocess.run(command, capture_output=True, text=True, env=self.variables, cwd=self.root, **options)
        assert done.returncode == code, (
            f"{shlex.join(command)} ended with {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    def pip(self, *words):
        """The tests' own pip, at work in the environment."""
        self.run(sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check", *words)

    def install(self, *projects):
        """Install folders and wheels as users do, but offline."""
        self.pip("install", "--no-index", "--no-build-isolation", "--no-deps", *projects)

    def zoo(self, *commands):
        """Several commands of zoo in one process of the environment, by a name of yours: `name, words` each."""
        answer = self.root / "answer.json"
        words = [[str(word) for word in words] for _, words in commands]
        self.run(self.python, "-P", HERE / "driver.py", answer, input=json.dumps(words))
        found = [Done(**each) for each in json.loads(answer.read_text())]
        return {name: done for (name, _), done in zip(commands, found, strict=True)}


@pytest.fixture(scope="session")
def make_environment(tmp_path_factory):
    return lambda name: Environment(tmp_path_factory.mktemp(name))


def _project(folder, name, code, version):
    module = name.replace("-", "_")
    folder.mkdir(parents=True)
    (folder / f"{module}.py").write_text(code)
    (folder / "pyproject.toml").write_text(
        f"""
        [build-system]
        requires = ["hatchling>=1.25"]
        build-backend = "hatchling.build"
        [project]
        name = "{name}"
        version = "{version}"
        [project.entry-points.zoo]
        {name} = "{module}"
        [tool.hatch.build.targets.wheel]
        only-include = ["{module}.py"]
        """
    )


@pytest.fixture(scope="session")
def build_wheel(tmp_path_factory):
    """Builds the wheel of a distribution of one module, which is its plugin; gives its path."""
    from hatchling.build import build_wheel

    def build(name, code, version="0.7"):
        folder = tmp_path_factory.mktemp("projects") / name
        _project(folder, name, code, version)
        with contextlib.chdir(folder):
            return folder / build_wheel(str(folder))

    return build


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    """A CSV file of 30 dark and bright images with covariates, in which there are holes."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    lines = ["image,label,age,site"]
    for row in range(30):
        bright = row % 3 == 0
        pixels = random.integers(120 if bright else 0, 256 if bright else 130, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{row}.png")
        age = "" if row % 5 == 1 else f"{20 + row}.5"
        lines.append(f"{row}.png,{'bright' if bright else 'dark'},{age},{('north', 'south', '')[row % 4 % 3]}")
    path = folder / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return path
