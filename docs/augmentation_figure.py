"""Picture of docs/augmentation.md: each change of bouton.learn.augment by itself, on phantom tissue.

python docs/augmentation_figure.py
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from bouton.geometry import Box
from bouton.learn.augment import UNCHANGED, augment
from bouton.phantom import PhantomParams, generate

SIZE = (24, 150, 150)
SECTION, TALL, TITLE, GAP = 12, 3, 16, 4
COLUMNS = 6
# The change, its settings, and the seed of an instance that shows it.
PANELS = (
    ("as it is", {}, 0),
    ("turned: symmetry yx", {"symmetry": "yx"}, 3),
    ("warp", {"warp": 1.0, "warp_voxels": 4.0}, 2),
    ("lost section", {"lost": 1.0}, 5),
    ("misaligned: step", {"misalign": 1.0, "slip": 0.0, "shift_voxels": 12}, 4),
    ("misaligned: slip", {"misalign": 1.0, "slip": 1.0, "shift_voxels": 12}, 1),
    ("jitter", {"jitter": 1.0, "jitter_voxels": 1.5}, 1),
    ("grey", {"grey": 1.0}, 8),
    ("noise", {"noise": 0.25}, 1),
    ("blur: out of focus", {"blur": 1.0, "blur_voxels": 1.5}, 9),
    ("missing", {"missing": 1.0}, 7),
    ("box", {"box": 1.0, "box_density": 0.2, "box_voxels": (15, 50)}, 5),
)


def outlines(ids: np.ndarray) -> np.ndarray:
    """Return bool (y, x): where the id above or to the left is another."""
    edge = np.zeros(ids.shape, bool)
    edge[1:] |= ids[1:] != ids[:-1]
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    return edge


def drawn(grey: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return uint8 (y, x, 3): the image, few greys to keep the file small, the truth's outlines in red."""
    levels = np.clip(np.rint(np.clip(grey, 0, 1) * 15) * 17, 0, 255).astype(np.uint8)
    shown = np.repeat(levels[..., None], 3, axis=2)
    shown[outlines(ids)] = (220, 40, 40)
    return shown


def panel(image: np.ndarray, ids: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Return a section, the most changed if only some are, above a cut along z, uint8 (rows, x, 3)."""
    z = int(changed.argmax()) if 0 < np.count_nonzero(changed) <= SIZE[0] // 4 else SECTION
    row = SIZE[1] // 2
    cut = drawn(np.repeat(image[:, row], TALL, axis=0), np.repeat(ids[:, row], TALL, axis=0))
    between = np.full((GAP, SIZE[2], 3), 255, np.uint8)
    return np.concatenate([drawn(image[z], ids[z]), between, cut])


def main() -> None:
    """Write images/augmentations.png beside this file."""
    made = generate(Box.of_shape(SIZE), PhantomParams(seed=1003))
    image, ids = made.image.astype(np.float32) / 255, made.neuron_ids
    height = SIZE[1] + GAP + TALL * SIZE[0] + TITLE
    rows = -(-len(PANELS) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (SIZE[2] + GAP), rows * (height + GAP)), "white")
    pen = ImageDraw.Draw(sheet)
    for n, (title, settings, seed) in enumerate(PANELS):
        new, (moved,) = augment(image, [ids], replace(UNCHANGED, **settings), np.random.default_rng(seed))
        changed = np.abs(new - image).mean(axis=(1, 2))
        x, y = (n % COLUMNS) * (SIZE[2] + GAP), (n // COLUMNS) * (height + GAP)
        pen.text((x + 2, y + 1), title, fill="black")
        sheet.paste(Image.fromarray(panel(new, moved, changed)), (x, y + TITLE))
    sheet.quantize(24).save(Path(__file__).parent / "images" / "augmentations.png", optimize=True)


if __name__ == "__main__":
    main()
