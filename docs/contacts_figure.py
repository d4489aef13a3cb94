"""The picture of docs/stages/contacts.md: one neuron of a phantom, its contact patches, each partner's in one colour.

python docs/contacts_figure.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage

from bouton.geometry import Box
from bouton.phantom import PhantomParams, generate
from bouton.segment.contacts import contacts
from bouton.segment.contacts_roots import FragmentContacts, root_contacts

SIZE_NM = (30.0, 10.0, 10.0)
SHAPE = (32, 130, 130)
SHOWN = 8


def places_of(labels: np.ndarray, one: np.uint64, other: np.uint64) -> np.ndarray:
    """Return bool (z, y, x): the upper voxels of the faces between two segments."""
    places = np.zeros(labels.shape, np.bool_)
    for axis in range(3):
        upper = tuple(slice(int(i == axis), None) for i in range(3))
        lower = tuple(slice(0, -1 if i == axis else None) for i in range(3))
        a, b = labels[upper], labels[lower]
        places[upper] |= ((a == one) & (b == other)) | ((a == other) & (b == one))
    return places


def _xy(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.nonzero(mask)
    return x, y


def main() -> None:
    """Draw it."""
    box = Box.of_shape(SHAPE)
    labels = generate(box, PhantomParams(seed=3, voxel_size_nm=SIZE_NM)).neuron_ids.astype(np.uint64)
    sums, found = contacts(labels, box, box, SHAPE, True)
    none = np.zeros(0, np.uint64), np.zeros(0, np.uint64)
    table = root_contacts(FragmentContacts(sums, found.patches, found.links), none, SIZE_NM)
    names, partners = np.unique(np.concatenate([table["a_id"], table["b_id"]]), return_counts=True)
    neuron = names[np.argmax(partners)]
    rows = np.flatnonzero((table["a_id"] == neuron) | (table["b_id"] == neuron))
    rows = rows[np.argsort(table["area_um2"][rows])[::-1]][:SHOWN]

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    section = SHAPE[0] // 2
    grey = 0.72 + (labels[section] % np.uint64(23)) / 100
    grey[labels[section] == 0], grey[labels[section] == neuron] = 1.0, 0.35
    left.imshow(grey, cmap="gray", vmin=0, vmax=1)
    right.imshow((labels == neuron).any(axis=0), cmap="Greys", vmin=0, vmax=5)
    for colour, row in zip(plt.cm.tab10.colors, rows, strict=False):
        other = table["b_id"][row] if table["a_id"][row] == neuron else table["a_id"][row]
        places = places_of(labels, neuron, other)
        parts = ndimage.label(places, np.ones((3, 3, 3)))[1]
        assert parts == table["patches"][row], "the picture and the table must agree"
        patches = "1 patch" if parts == 1 else f"{parts} patches"
        text = f"{table['area_um2'][row]:.2f} um$^2$, {patches}"
        right.scatter(*_xy(places.any(axis=0)), s=2, color=colour, label=text)
        left.scatter(*_xy(places[section]), s=5, color=colour)
    left.set_title(f"section {section}: a neuron (dark) and its contacts")
    right.set_title("the same neuron from above, all sections")
    right.legend(fontsize=7, markerscale=4, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axes in (left, right):
        axes.set_xlim(0, SHAPE[2])
        axes.set_ylim(SHAPE[1], 0)
        axes.set_axis_off()
    figure.savefig(Path(__file__).parent / "images" / "contacts.png", dpi=110)


if __name__ == "__main__":
    main()
