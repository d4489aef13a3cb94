"""Pictures of docs/segmentation.md, from a run of workflows/fib25.yaml.

    bouton evaluate --segmentation $(bouton path runs/fib25 segmentation) ... --errors 4 --out errors
    python docs/figures.py runs/fib25 errors

The tissue: Takemura et al. 2015, doi:10.1073/pnas.1509820112 (FIB-25), CC-BY.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot
from PIL import Image

from bouton import open_run
from bouton.geometry import Box
from bouton.volume.run_folder import Run

IMAGES = Path(__file__).parent / "images"
SECTION = 140
PANELS = {
    "image": "data:image",
    "affinities along y, x": "network.affinities",
    "fragments": "fragments",
    "segments": "segmentation",
    "true neurons": "data:truth",
}


def colours(labels: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return float (y, x, 3): each label in a colour of its own over the image; 0 stays grey."""
    palette = np.random.default_rng(5).uniform(0.15, 1.0, (997, 3))
    shade = np.repeat(image[..., None] / 255, 3, axis=2)
    mixed = 0.45 * shade + 0.55 * palette[labels % 997]
    return np.where((labels == 0)[..., None], shade, mixed)


def steps(run: Run) -> None:
    """Write images/segmentation_steps.png beside this file."""
    box = Box((SECTION, 0, 0), (SECTION + 1, 250, 250))
    image = run.volume("data:image").read(box)[0]
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(15, 3.4), layout="constrained")
    for axis, (title, ref) in zip(axes, PANELS.items(), strict=True):
        values = run.volume(ref).read(box)
        if title == "image":
            axis.imshow(image, cmap="gray")
        elif values.ndim == 4:
            axis.imshow(values[1:, 0].min(axis=0), cmap="gray")
        else:
            axis.imshow(colours(values[0].astype(np.int64), image))
            title = f"{len(np.unique(values[0][values[0] != 0]))} {title} here"
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    axes[0].plot([10, 110], [238, 238], color="white", linewidth=3)
    axes[0].text(60, 230, "1 µm", color="white", ha="center", fontsize=9)
    figure.savefig(IMAGES / "segmentation_steps.png", dpi=100)


def errors(folder: Path) -> None:
    """Write images/errors_fib25.jpg: the four largest splits above the four largest merges."""
    rows = [sorted(folder.glob(f"{kind}-*.png"))[:4] for kind in ("split", "merge")]
    pictures = [[Image.open(path).convert("RGB") for path in row] for row in rows]
    width, height = (max(picture.size[i] for row in pictures for picture in row) for i in range(2))
    sheet = Image.new("RGB", (4 * width, 2 * height), "white")
    for y, row in enumerate(pictures):
        for x, picture in enumerate(row):
            sheet.paste(picture, (x * width, y * height))
    sheet.reduce(max(1, sheet.width // 1400)).save(IMAGES / "errors_fib25.jpg", quality=85)


def main() -> None:
    """Write both pictures."""
    matplotlib.use("Agg")
    steps(open_run(sys.argv[1]))
    errors(Path(sys.argv[2]))


if __name__ == "__main__":
    main()
