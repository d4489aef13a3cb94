"""The counts of Kasthuri et al. 2015 (doi:10.1016/j.cell.2015.06.054) out of our own tables and graphs."""

import csv
import os
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from bouton.stages.connectome import write_graphml
from bouton.synapse.connectome import connections
from bouton.volume.synapse_tables import read_synapses

ROOT = Path(__file__).parents[2]
TYPES = {0: "excitatory", 1: "inhibitory"}
TARGETS = {1: "spine", 0: "shaft"}
UM_TO_NM = 1000.0


@pytest.fixture(scope="module")
def synapses(tmp_path_factory):
    """The supplementary table of the paper, written as CSV with our columns and read back."""
    folder = Path(os.environ.get("BOUTON_DATA", ROOT.parent / "shared" / "data")) / "kasthuri2015_synapses"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    xlrd = pytest.importorskip("xlrd", reason="the paper's table is an .xls file: pip install xlrd")
    sheet = xlrd.open_workbook(folder / "mmc2.xls").sheet_by_index(0)
    rows = [sheet.row_values(i) for i in range(2, sheet.nrows) if sheet.cell_value(i, 0)]
    with (folder / "kasthuri2015_synapse_table.csv").open() as file:
        ends = {int(row["SynapseID"]): (row["FromSegmentID"], row["ToSegmentID"]) for row in csv.DictReader(file)}
    path = tmp_path_factory.mktemp("kasthuri") / "synapses.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "z_nm", "y_nm", "x_nm", "pre_id", "post_id", "size_voxels", "type", "target"])
        for row in rows:
            x, y, z = (float(value) * UM_TO_NM for value in row[1:4])
            kinds = (TYPES.get(row[10], "unknown"), TARGETS.get(row[17], "unknown"))
            writer.writerow([int(row[0]), z, y, x, *ends[int(row[0])], int(row[19]), *kinds])
    return read_synapses(path)


@pytest.mark.real
def test_counts_of_synapses(synapses):
    assert len(synapses["id"]) == 1700
    assert [int((synapses["target"] == name).sum()) for name in ("spine", "shaft")] == [1424, 275]
    assert [int((synapses["type"] == name).sum()) for name in ("excitatory", "inhibitory")] == [1610, 87]


@pytest.mark.real
def test_counts_of_pairs(synapses, tmp_path):
    edges = connections(synapses)
    assert len(edges["n"]) == 1559 and int((edges["n"] == 1).sum()) == 1437
    assert int(edges["n"].sum()) == 1700
    write_graphml(tmp_path / "graph.graphml", edges)
    graph = nx.read_graphml(tmp_path / "graph.graphml")
    assert graph.number_of_edges() == 1559
    assert sum(count for _, _, count in graph.edges(data="n")) == 1700
    assert set(graph) == {str(i) for i in np.union1d(synapses["pre_id"], synapses["post_id"])}
