"""webKnossos' own reader opens our synapses.

The package ``webknossos`` is under the AGPL: it lives in an environment of its own and is never imported here.
``python -m venv wk && wk/bin/pip install webknossos``, then ``BOUTON_WEBKNOSSOS_PYTHON=wk/bin/python pytest --slow``.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bouton.volume.synapse_nml import write_synapse_nml

PYTHON = os.environ.get("BOUTON_WEBKNOSSOS_PYTHON")
WHY_NOT = "BOUTON_WEBKNOSSOS_PYTHON names no interpreter that has the package webknossos"
READ = """
import json, sys, webknossos
skeleton = webknossos.Skeleton.load(sys.argv[1])
group_of = {tree.id: group.name for group in skeleton.groups for tree in group.trees}
print(json.dumps({
    "name": skeleton.dataset_name,
    "voxel_size": list(skeleton.voxel_size),
    "trees": [{
        "name": tree.name, "group": group_of.get(tree.id), "metadata": dict(tree.metadata),
        "nodes": [[node.id, list(node.position), node.comment] for node in sorted(tree.nodes, key=lambda n: n.id)],
        "edges": sorted([a.id, b.id] for a, b in tree.edges),
    } for tree in sorted(skeleton.flattened_trees(), key=lambda t: t.id)],
}))
"""


def synapses(rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    table = {"id": np.arange(rows, dtype=np.uint64) + np.uint64(2**63)}
    table |= {f"{side}{axis}_nm": rng.uniform(0, 9000, rows) for side in ("", "pre_", "post_") for axis in "zyx"}
    table |= {name: rng.integers(0, 2**63, rows).astype(np.uint64) for name in ("pre_id", "post_id")}
    table["score"] = rng.random(rows)
    table["type"] = rng.choice(np.array(["excitatory", 'in "quotes" <&>'], dtype=object), rows)
    table["pre_z_nm"][3] = np.nan
    return table


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON, reason=WHY_NOT)
def test_webknossos_reads_every_tree(tmp_path: Path) -> None:
    table = synapses(60)
    write_synapse_nml(tmp_path / "a.nml", table, (40, 4, 8), groups="type", name="run & co")
    answer = subprocess.run(
        [str(PYTHON), "-c", READ, str(tmp_path / "a.nml")], capture_output=True, text=True, timeout=300, check=False
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    read = json.loads(answer.stdout)
    assert read["name"] == "run & co" and read["voxel_size"] == [8, 4, 40] and len(read["trees"]) == 60
    for row, tree in enumerate(read["trees"]):
        assert tree["name"] == f"synapse {table['id'][row]}" and tree["group"] == table["type"][row]
        assert tree["metadata"]["id"] == str(table["id"][row])
        assert tree["metadata"]["score"] == pytest.approx(table["score"][row])
        first = 3 * row + 1
        known = [("pre", "pre_"), ("cleft", ""), ("post", "post_")][1 if row == 3 else 0 :]
        numbers = [first + i for i in range(3 - len(known), 3)]
        assert tree["edges"] == [[a, a + 1] for a in numbers[:-1]]
        for (role, side), (number, place, comment), wanted in zip(known, tree["nodes"], numbers, strict=True):
            assert number == wanted and comment.startswith(role)
            assert place == [int(table[f"{side}{a}_nm"][row] // s) for a, s in zip("xyz", (8, 4, 40), strict=True)]
