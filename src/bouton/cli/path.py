"""``bouton path``: where a result lies."""

from __future__ import annotations

import sys
from pathlib import Path

from bouton.cli.choices import Result, RunName, RunsFolder, find_run
from bouton.volume.run_folder import open_run


def command(run: RunName, result: Result, runs: RunsFolder = Path("runs")) -> None:
    """Print where a result lies, and nothing else: for scripts.

    \b
    bouton path runs/demo segmentation
    python -c "import bouton, sys; print(bouton.open_volume(sys.argv[1])[0, :8, :8])" $(bouton path demo segmentation)
    """
    sys.stdout.write(f"{open_run(find_run(run, runs)).path(result)}\n")
