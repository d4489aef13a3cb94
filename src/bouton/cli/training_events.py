"""TensorBoard events of a training, through the optional package tensorboard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from bouton.segment.packages import require


class Events:
    """Writes scalars for TensorBoard: ``tensorboard --logdir FOLDER``.

    Parameters
    ----------
    folder : Path
        Receives the event files; a resumed training adds one.

    Raises
    ------
    SpecError
        The package is not installed.
    """

    def __init__(self, folder: Path) -> None:
        require("tensorboard", "tensorboard 2.16", "tensorboard")
        from tensorboard.summary import Writer

        self._writer = Writer(str(folder))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of one step that are numbers, at once."""
        for name, value in values.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
