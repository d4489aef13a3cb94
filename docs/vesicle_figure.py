"""A picture for docs/vesicle.md: image, probability and objects of VESICLE-RF on held-out rows of the nerve cord.

PYTHONPATH=benchmarks python docs/vesicle_figure.py FOREST OUT.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from models import detected
from synapses_forest import clefts, stack

from bouton.learn.runners_forest import open_forest


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("forest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--level", type=float, default=0.78)
    parser.add_argument("--voxels", type=int, default=1000)
    options = parser.parse_args()
    image, truth = stack()
    image, truth = image[:, 480:], truth[:, 480:]
    values = clefts(open_forest(options.forest), image)
    found = detected(values, round(options.level * 255), options.voxels)
    section = max(range(len(truth)), key=lambda z: np.count_nonzero(truth[z, 80:]))
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    panels = (
        ("image", None),
        ("probability", np.ma.masked_equal(values[section], 0)),
        ("objects; outlines: painted", np.ma.masked_equal(found[section] % 10 + (found[section] > 0), 0)),
    )
    for axes, (name, layer) in zip(figure.subplots(3, 1), panels, strict=True):
        axes.imshow(image[section], cmap="gray", vmin=0, vmax=255)
        if layer is not None:
            axes.imshow(layer, cmap="viridis" if name == "probability" else "tab10", alpha=0.75)
        if name.startswith("objects"):
            axes.contour(truth[section] > 0, [0.5], colors="red", linewidths=1)
        axes.axhline(80, color="white", linewidth=0.6, linestyle="--")
        axes.set_title(name, fontsize=9, loc="left")
        axes.set_axis_off()
    figure.savefig(options.out, dpi=100)


if __name__ == "__main__":
    main()
