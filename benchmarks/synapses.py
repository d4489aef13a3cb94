"""Everything that is claimed about synapses: detectors, objects, contacts, partners, types, tracing.

    python benchmarks/synapses.py [PART ...]

Parts: forest (VESICLE-RF: speed, accuracy on real sections), objects, contacts, partners (a million; fresh phantoms),
chain (objects + contacts + partners), network (partner network), types, trace, published (FAFB). Without a name: all;
half an hour. Each part is a script of its own with options and explanations: benchmarks/synapses_PART.py.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

PARTS = ("objects", "contacts", "partners", "chain", "forest", "network", "types", "trace", "published")


def main() -> None:
    """Print a table of what, target, measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parts = parser.parse_args().parts or PARTS
    for name in parts:
        if name not in PARTS:
            parser.error(f"no part {name!r}; one of {', '.join(PARTS)}")
    print("| what | target | measured |\n|---|---|---|")
    for name in parts:
        start = time.time()
        for what, target, measured in importlib.import_module(f"synapses_{name}").rows():
            print(f"| {what} | {target} | {measured} |", flush=True)
        print(f"({name}: {time.time() - start:.0f} s)", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
