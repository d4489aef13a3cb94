"""Everything that is claimed about synapses: detectors, objects, contacts, partners, types, tracing, files, scores.

    python benchmarks/synapses.py [PART ...] [--forest FOLDER [--chosen-on FOLDER] [--unet FOLDER]]

Parts: objects, contacts, partners (a million; fresh phantoms), chain (objects + contacts + partners), forest
(VESICLE-RF: speed, accuracy on real sections), network (partner network), types, trace, published (FAFB), formats,
evaluation. Without a name: all; half an hour. Each part is a script of its own with options and explanations:
benchmarks/synapses_PART.py. The forest's rows need the models that they compare (trained on data that may not ship).
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

PARTS = (
    "objects", "contacts", "partners", "chain", "forest", "network", "types", "trace", "published", "formats",
    "evaluation",
)  # fmt: skip
Row = tuple[str, str, str]


def _rows(name: str, options: argparse.Namespace) -> Callable[[], list[Row]]:
    """Return what measures a part."""
    module = importlib.import_module(f"synapses_{name}")
    if name == "partners":
        return lambda: module.rows(phantoms=True)
    if name != "forest":
        return module.rows
    if options.forest is None:
        return lambda: [("VESICLE-RF, and beside the U-Net", ">= 1.0 Mvoxel/s, >= 0.70", "not measured: no --forest")]
    words = [str(options.forest)]
    for option in ("chosen_on", "unet"):
        value = getattr(options, option)
        words += [f"--{option.replace('_', '-')}", str(value)] if value else []
    return lambda: module.rows(words)


def main() -> None:
    """Print a table of what, target, measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    for option in ("--forest", "--chosen-on", "--unet"):
        parser.add_argument(option, type=Path, metavar="FOLDER")
    options = parser.parse_args()
    for name in options.parts:
        if name not in PARTS:
            parser.error(f"no part {name!r}; one of {', '.join(PARTS)}")
    print("| what | target | measured |\n|---|---|---|")
    for name in options.parts or PARTS:
        start = time.time()
        for what, target, measured in _rows(name, options)():
            print(f"| {what} | {target} | {measured} |", flush=True)
        print(f"({name}: {time.time() - start:.0f} s)", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
