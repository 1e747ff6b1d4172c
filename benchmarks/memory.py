"""Whether the features of many images are extracted in bounded memory: 100,000 synthetic ones, without their files.

    python benchmarks/memory.py [--images 10000 100000] [--backbone timm/test_resnet] [--size 160]
        [--features tokens] [--folder PLACE] [--out benchmarks/results/memory-cpu-DATE.json]

Noise is written straight into the store that decoded images lie in; then `zoo.features.extract.keep` runs over the
first rows of it, for each number of images in a process of its own with an empty feature cache, and leaves the features
on the disk; after that they are loaded, as head-only training does. Weights are random: what is measured is memory. The
store takes 3 x size x size bytes an image on the disk (7.7 GB at the defaults).

What counts is anonymous memory, which the system cannot take back: its peak, above the peak of an extraction of eight
batches in the same process. It is held against a bound that does not grow with the images but for their digests and
ids. Pages of the mapped store are shown apart, because they are given back when anybody needs the room, and so is what
loading adds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import tempfile
import threading
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from zoo.grid.rows import Cell
from zoo.grid.run import failed, run_grid
from zoo.grid.worker import Limits

MIB = 2**20
TICK = 0.01
"""Seconds between two looks at the memory."""

FIRST_BATCHES = 8
"""Batches of the small extraction that the large one is held against: pixels and activations of a batch are in it."""

SLACK = 64 * MIB
"""Of the bound: what allocators keep."""

INDEX_BYTES = 256
"""Of the bound, an image: digests, ids and the sorted copies that finding rows among them takes."""


def memory():
    """Bytes of this process: anonymous, mapped from files, and the largest resident size ever (Linux)."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    held = {key: int(re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024 for key in ("RssAnon", "RssFile")}
    return held["RssAnon"], held["RssFile"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Peak:
    """The largest anonymous and mapped memory while this is entered, looked at a hundred times a second."""

    def __enter__(self):
        self.anonymous, self.mapped, _ = memory()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self):
        while not self._stop.wait(TICK):
            self._look()

    def _look(self):
        anonymous, mapped, _ = memory()
        self.anonymous, self.mapped = max(self.anonymous, anonymous), max(self.mapped, mapped)

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._look()


def network(parameters):
    """The view of the backbone without its classifier, for images of the size asked for."""
    from zoo.model.adapt import adapt_input
    from zoo.model.load import strip
    from zoo.model.view import build_view

    return strip(adapt_input(build_view(parameters["backbone"], "none"), size=parameters["size"]))


def digests_of(count):
    """uint8 (N, 16), as of `count` different files."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (count, 16), dtype=np.uint8)


def fill(parameters, seed):
    """Write noise into the store of decoded images, a shard at a time; rows that are there stay."""
    import numpy as np
    import torch

    from zoo.data.ingest import pixel_store

    spec, digests = network(parameters).input, digests_of(parameters["images"])
    store, _ = pixel_store(spec, Path(parameters["folder"], "images"))
    shard, random = max(1, 64 * MIB // store.row_nbytes), np.random.default_rng(seed)
    for at in range(0, len(digests), shard):
        part = digests[at : at + shard]
        if (store.find(part) < 0).any():
            rows = random.integers(0, 256, (len(part), *store.shape), dtype=np.uint8)
            store.append(part, torch.from_numpy(rows))
    return {"store_mib": store.nbytes / MIB}


def extraction(parameters, seed):
    """Extract and watch; a first small extraction brings in whatever stays for good."""
    import numpy as np
    import torch

    from zoo.data.images import Images
    from zoo.data.ingest import pixel_store
    from zoo.features.digests import weights_digest
    from zoo.features.extract import SHARD_BYTES, SHARD_ROWS, keep
    from zoo.features.prefix import BATCH, Prefix, Recipe

    torch.manual_seed(seed)
    view, count = network(parameters), parameters["images"]
    store, holes = pixel_store(view.input, Path(parameters["folder"], "images"))
    digests = digests_of(parameters["largest"])[:count]
    ids = store.find(digests)
    images = Images(
        digests=digests,
        bad={},
        store=store,
        ids=ids,
        spec=view.input,
        seconds=0.0,
        decoded=count,
        hits=0,
        facts=np.zeros((count, 3, 2), dtype=np.int32),
        holes=holes,
        mask_ids=np.full(count, -1),
    )
    digest = weights_digest(view.module)
    prefix = Prefix(view, view.feature(parameters["features"]).name, Recipe(channels_last=True), torch.device("cpu"))

    def run(rows, folder):
        return keep(prefix, images, rows, digest=digest, cache=folder)

    with tempfile.TemporaryDirectory(dir=parameters["folder"]) as folder:
        with Peak() as first:
            run(np.arange(min(count, FIRST_BATCHES * BATCH["cpu"])), Path(folder, "first"))
        with Peak() as peak:
            kept = run(np.arange(count), Path(folder, "all"))
        before, _, resident = memory()
        loaded = kept.load()
        after, _, _ = memory()
        result = loaded.nbytes
    row_bytes = result // count
    shard = min(SHARD_ROWS * row_bytes, max(BATCH["cpu"] * row_bytes, SHARD_BYTES))
    # A shard is held as it fills, and once more as it is written.
    bound = 2 * shard + INDEX_BYTES * count + SLACK
    grown = max(0, peak.anonymous - first.anonymous)
    return {
        "images": count,
        "images_per_second": count / kept.seconds,
        "first_batches_peak_anonymous_mib": first.anonymous / MIB,
        "peak_anonymous_mib": peak.anonymous / MIB,
        "grown_mib": grown / MIB,
        "bound_mib": bound / MIB,
        "holds": grown <= bound,
        "features_mib": result / MIB,
        "loading_added_mib": (after - before) / MIB,
        "peak_mapped_mib": peak.mapped / MIB,
        "peak_resident_mib": resident / MIB,
        "pixels_mib": count * store.row_nbytes / MIB,
    }


def in_process(task, parameters, folder):
    """What a function of this file gives in a fresh process; stops where it failed."""
    cell = Cell(task=f"memory:{task}", parameters=parameters)
    limits = Limits(seconds=24 * 3600, mib=float("inf"), threads=os.cpu_count() or 1)
    [row] = run_grid([cell], Path(folder, "rows.jsonl"), limits=limits, retry=failed)
    if failed(row):
        raise SystemExit(f"{task} failed, {row.status}: {row.message}\n{row.output}")
    return row.result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--backbone", default="timm/test_resnet", help="a small one; its weights are random")
    parser.add_argument("--size", type=int, help="pixels; by default the network's own")
    parser.add_argument("--features", help="kind of features; by default the network's own")
    parser.add_argument("--folder", type=Path, help="where the store lies for the time being; not in memory")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    same = {"backbone": options.backbone, "size": options.size, "features": options.features}
    same["largest"] = max(options.images)
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        filled = in_process("fill", same | {"folder": folder, "images": max(options.images)}, folder)
        print(f"{max(options.images):,} images of noise, {filled['store_mib']:,.0f} MiB", flush=True)
        for count in options.images:
            own = in_process("extraction", same | {"folder": folder, "images": count}, folder)
            rows.append({name: round(value, 1) if isinstance(value, float) else value for name, value in own.items()})
            print(told(rows[-1]), flush=True)
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("backbone-zoo", "torch")},
        },
        **{name: same[name] for name in ("backbone", "size", "features")},
        "rows": rows,
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(f"written to {options.out}")
    if not all(row["holds"] for row in rows):
        raise SystemExit("over the bound")


def told(row):
    return (
        f"{row['images']:,} images, {row['images_per_second']:,.0f} a second: anonymous memory grew by "
        f"{row['grown_mib']:.0f} MiB (bound {row['bound_mib']:.0f}: {'holds' if row['holds'] else 'FAILS'}) to "
        f"{row['peak_anonymous_mib']:.0f}; loading {row['features_mib']:.0f} MiB of features added "
        f"{row['loading_added_mib']:.0f}; pages of files, which can be given back, {row['peak_mapped_mib']:.0f}, the "
        f"pixels being {row['pixels_mib']:.0f}; largest resident size {row['peak_resident_mib']:.0f}"
    )


if __name__ == "__main__":
    main()
