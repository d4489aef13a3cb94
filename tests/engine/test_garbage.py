"""gc of a run after a removal that was killed."""

from __future__ import annotations

import json
from pathlib import Path

from bouton.engine.garbage import REMOVED, find_garbage, remove_garbage
from bouton.volume import write_bytes


def test_a_torn_removal_of_a_step_s_only_result_is_found(tmp_path: Path) -> None:
    run = tmp_path / "a"
    record = {"workflow": "a", "shape_zyx": [1, 1, 1], "voxel_size_nm": [1, 1, 1], "sources": {}, "steps": []}
    write_bytes(run / "run.json", json.dumps(record).encode())
    write_bytes(run / "step" / f"{REMOVED}torn" / "layer" / "0", b"123")
    # A report may be written while nobody holds the lock.
    write_bytes(run / "report" / ".page.html.1234.partial", b"half")
    assert [each.size_bytes for each in find_garbage(run, [])] == [3]
    remove_garbage(run, list)
    assert not (run / "step").exists()
    assert len(list((run / "report").iterdir())) == 1
