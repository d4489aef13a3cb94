"""A worker whose tasks do nothing and write nothing: what is left is the engine."""

from __future__ import annotations

import sys

from bouton.engine.execute import Worker
from bouton.engine.executors.worker import main
from bouton.engine.leases import Done, Lease


class NoOps(Worker):
    """Executes no task, and says that it did."""

    def _execute(self, lease: Lease, number: int) -> Done:
        return Done(number, voxels=1)


if __name__ == "__main__":
    main(NoOps(), *(int(argument) for argument in sys.argv[1:4]))
