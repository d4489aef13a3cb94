"""The picture of docs/stages/partner_network.md: what the network sees of a cleft, and what it says.

    python docs/partner_network_figure.py

Phantom of seed 2011, which the network was not trained on.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from bouton.cli.training_data import phantom_volume
from bouton.cli.training_plan import Phantoms
from bouton.learn.partner_network import partner_masks
from bouton.learn.partner_sampling import cleft_centres, patch_place, truth_of
from bouton.learn.runners import Runtime
from bouton.learn.shipped import runner_of

OUT = Path(__file__).parent / "images" / "partner_network.png"
SHOWN = 3


def main() -> None:
    """Draw three clefts."""
    source = Phantoms(seeds=(2011,), shape_zyx=(60, 256, 256))
    volume = phantom_volume(source, 2011, (30.0, 10.0, 10.0))
    runner = runner_of("partners-phantom", Runtime())
    clefts = truth_of(volume).clefts
    figure, axes = plt.subplots(SHOWN, 4, figsize=(8, 2.1 * SHOWN), layout="constrained")
    for turn, (number, centre) in enumerate(cleft_centres(volume)[1 : SHOWN + 1]):
        place = patch_place(centre, runner.info.tile_zyx, volume.image.shape)
        image, mask = volume.image[place], clefts[place] == number
        pre, post = partner_masks(runner, image, mask)
        middle = centre[0] - place[0].start
        shown = (np.zeros_like(image), mask * np.uint8(255), pre, post)
        for axis, values, name in zip(
            axes[turn], shown, ("image", "cleft shown", "presynaptic", "postsynaptic"), strict=True
        ):
            axis.imshow(image[middle], cmap="gray", vmin=0, vmax=255)
            over = np.ma.masked_less(values[middle], 64)
            axis.imshow(over, cmap="autumn" if name == "cleft shown" else "viridis", vmin=0, vmax=255, alpha=0.55)
            axis.set_axis_off()
            if turn == 0:
                axis.set_title(name, fontsize=9)
    figure.savefig(OUT, dpi=110)


if __name__ == "__main__":
    main()
