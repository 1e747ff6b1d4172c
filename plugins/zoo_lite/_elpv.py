"""The ELPV data set: solar cells photographed by electroluminescence, judged by experts.

Buerhop-Lutz et al., A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence Imagery,
EU PVSEC 2018; Deitsch et al., Solar Energy 185 (2019).
"""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from pathlib import Path

from zoo.errors import DataError
from zoo.specs import DatasetTable, Roles

COUNTS = {"0.00": 1508, "0.33": 295, "0.67": 106, "1.00": 715}
"""Images of each likelihood of a defect, as published; the names sort by severity."""

_OFFERS = {
    "defect": "likelihood of a defect as the experts gave it: 0.00, 0.33, 0.67 or 1.00",
    "defective": "defective where that likelihood is at least one half, else functional",
    "type": "the cell is mono- or polycrystalline",
}


def load() -> DatasetTable:
    """Read the labels from the installed wheel; images stay files.

    Raises:
        DataError: the wheel is not installed, or its labels are not those that were published.
    """
    folder = _folder()
    rows = [line.split() for line in (folder / "labels.csv").read_text(encoding="utf-8").splitlines() if line.strip()]
    if any(len(row) != 3 for row in rows):
        raise DataError(f"{folder / 'labels.csv'} is not the table of elpv-dataset: install the wheel again")
    probability = [float(row[1]) for row in rows]
    defect = [f"{value:.2f}" for value in probability]
    found = dict(Counter(defect))
    if found != COUNTS:
        raise DataError(f"{folder / 'labels.csv'} holds {found} images, not the {COUNTS} that were published")
    return DatasetTable(
        columns={
            "image": [row[0] for row in rows],
            "defect": defect,
            "defective": ["defective" if value >= 0.5 else "functional" for value in probability],
            "type": [row[2] for row in rows],
            "probability": probability,
        },
        roles=Roles(targets=("defect",), stratify="type"),
        root=folder,
        offers=_OFFERS,
    )


def _folder() -> Path:
    spec = find_spec("elpv_dataset")  # found, not imported: importing it is of no use here
    for place in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(place) / "data"
        if (folder / "labels.csv").is_file():
            return folder
    raise DataError(
        'the ELPV data set is not installed: pip install "backbone-zoo[elpv]". '
        "The data are licensed CC BY-NC-SA 4.0 and are not for commercial use"
    )
