"""Pictures of docs/densities.md: what each counting rule makes of masks, and what the table of Bock et al. 2011 shows.

    python docs/densities_figure.py [--data DIR] [--seeds 8]

``--data`` is the folder that holds bock11_density/synapse_blocks.csv; default: $BOUTON_DATA, else ../shared/data.
Without it only the first picture is made. The biases are printed, too.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot
from scipy import ndimage

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests")]
import density_tissue as known  # noqa: E402
from density_tables import read_counts  # noqa: E402

from bouton.density.blocks import density_blocks  # noqa: E402
from bouton.density.profiles import axis_curves  # noqa: E402
from bouton.stages.densities import STAGE, Params  # noqa: E402
from bouton.volume import TableData  # noqa: E402
from harness import run_stage  # noqa: E402

IMAGES = ROOT / "docs" / "images"
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.55"
SHARES = (-1.0, 0.0, 0.05, 0.25, 0.75)
NAMES = ("none", "0 - 5", "5 - 25", "25 - 75")
RULES = {
    "centroid (default)": (Params(), BLUE, "o"),
    "centroid, exclusion_nm: 0": (Params(exclusion_nm=0.0), GREY, "s"),
    "neurodata-2016": (Params(rule="neurodata-2016"), ORANGE, "^"),
}


def block_sums(values: np.ndarray, table: TableData) -> np.ndarray:
    """Return the sum of a volume over each block of a table."""
    edges = [np.unique(np.concatenate([table[f"{axis}_start"], table[f"{axis}_stop"]])) for axis in "zyx"]
    inside = values[tuple(slice(edge[0], edge[-1]) for edge in edges)].astype(np.float64)
    for axis, edge in enumerate(edges):
        inside = np.add.reduceat(inside, edge[:-1] - edge[0], axis=axis)
    return inside.ravel()


def biases(params: Params, seeds: int) -> np.ndarray:
    """Return the bias of a rule, float64 (seeds, shares + 1), by masked share and over all blocks."""
    mask = known.vessels_and_gaps()
    hidden = np.pad(mask > 0, 1, constant_values=params.reach_nm > 0)
    far = ndimage.distance_transform_edt(~hidden, sampling=known.VOXEL_NM)[1:-1, 1:-1, 1:-1] > params.reach_nm
    found = []
    for seed in range(1, seeds + 1):
        tissue = known.tissue(seed, beyond_nm=1000.0)
        inputs = {"labels": tissue.labels, "mask": mask}
        table = run_stage(STAGE, params, inputs, (267, 188, 188), known.VOXEL_NM)["densities"]
        expected, share = block_sums(tissue.expected(far), table), table["masked_share"]
        rows = [(share > a) & (share <= b) for a, b in itertools.pairwise(SHARES)]
        rows.append(np.ones(len(share), bool))
        found.append([table["synapses"][row].sum() / expected[row].sum() - 1 for row in rows])
    return np.array(found)


def draw_bias(seeds: int) -> None:
    """Write docs/images/densities_bias.png."""
    figure, (place, axes) = pyplot.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    draw_tissue(place)
    axes.axhline(0, color="0.8", linewidth=1)
    for n, (name, (params, colour, marker)) in enumerate(RULES.items()):
        found = biases(params, seeds) * 100
        mean, error = found.mean(axis=0), 1.96 * found.std(axis=0, ddof=1) / seeds**0.5
        print(f"{name:28}" + " ".join(f"{m:+.2f} ± {e:.2f} %" for m, e in zip(mean, error, strict=True)))
        at = np.arange(len(NAMES)) + (n - 1) * 0.12
        axes.errorbar(at, mean[:-1], error[:-1], color=colour, marker=marker, linestyle="none", capsize=3, label=name)
    axes.set(xticks=range(len(NAMES)), xticklabels=NAMES, xlabel="masked share of the block, %")
    axes.set(ylabel="counted density against the true one, %")
    axes.legend(loc="lower left", frameon=False)
    figure.savefig(IMAGES / "densities_bias.png", dpi=110)


def draw_tissue(axes: pyplot.Axes) -> None:
    """Draw a section of the tissue: detected synapses, the mask, and where nothing counts."""
    mask, tissue, z = known.vessels_and_gaps(), known.tissue(1), 110
    near = ndimage.distance_transform_edt(mask[z] == 0, sampling=known.VOXEL_NM[1:]) <= 300
    shade = np.ones((*mask.shape[1:], 3))
    shade[near] = (1.0, 0.85, 0.6)
    shade[mask[z] > 0] = 0.55
    seen = (tissue.labels[z - 3 : z + 4] > 0).any(axis=0)
    shade[seen] = (0.0, 0.3, 0.6)
    side = mask.shape[1] * known.VOXEL_NM[1] / 1000
    axes.imshow(shade, extent=(0, side, side, 0), interpolation="nearest")
    for edge in np.arange(0, side, 39 * 0.128):
        axes.axhline(edge, color="0.75", linewidth=0.6)
        axes.axvline(edge, color="0.75", linewidth=0.6)
    axes.set(title="synapses found (blue), mask, 300 nm around it, blocks", xlabel="x, um", ylabel="y, um")


def draw_bock(path: Path) -> None:
    """Write docs/images/densities_bock.png."""
    table = read_counts(path)
    usable = table["exposed_um3"] > 0
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    edges = np.linspace(0, 1, 21)
    bins = np.digitize(table["masked_share"][usable], edges) - 1
    counted, volume = (np.bincount(bins, table[name][usable], 20) for name in ("synapses", "exposed_um3"))
    left.plot((edges[1:] + edges[:-1]) * 50, counted / volume, "o-", color=BLUE, markersize=4)
    left.set(xlabel="masked share of the block, %", ylabel="synapses per um3 unmasked", ylim=(0, None))
    blocks = density_blocks(table, 0.5)
    for axes, curve in ((middle, axis_curves(blocks)[0]), (right, axis_curves(blocks)[1])):
        axes.fill_between(curve.x, curve.low, curve.high, color=BLUE, alpha=0.25, linewidth=0)
        axes.plot(curve.x, curve.y, "o-", color=BLUE, markersize=3)
        axes.plot(curve.x, curve.expected, color=GREY, linewidth=1)
        axes.set(xlabel=f"{curve.name[-1]}, um", ylabel="synapses per um3 unmasked")
    middle.set(ylim=(1.0, 2.2), title="blocks of which at most half is masked")
    right.set(ylim=(1.0, 2.2))
    figure.savefig(IMAGES / "densities_bock.png", dpi=110)


def main() -> None:
    """Write both pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BOUTON_DATA") or ROOT.parent / "shared/data"))
    parser.add_argument("--seeds", type=int, default=8)
    given = parser.parse_args()
    matplotlib.use("Agg")
    path = given.data / "bock11_density" / "synapse_blocks.csv"
    if path.is_file():
        draw_bock(path)
    draw_bias(given.seeds)


if __name__ == "__main__":
    main()
