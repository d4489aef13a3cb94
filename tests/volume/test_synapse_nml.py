"""Synapses as webKnossos NML: what is written, what is read back, trees placed by hand, and what is refused."""

import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.volume.skeletons import read_nml
from bouton.volume.synapse_columns import POSITION_COLUMNS, SYNAPSE_COLUMNS
from bouton.volume.synapse_nml import write_synapse_nml
from bouton.volume.synapse_nml_reader import read_synapse_nml

DATA = Path(os.environ.get("BOUTON_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
SIZE = (40.0, 4.0, 8.0)


def synapses(rows, seed=0):
    """Return a table whose places are centres of voxels, so that nothing is lost on the way."""
    rng = np.random.default_rng(seed)
    table = {"id": (np.uint64(2**63) + rng.permutation(rows).astype(np.uint64))}
    for side in ("", "pre_", "post_"):
        for axis, size in zip("zyx", SIZE, strict=True):
            table[f"{side}{axis}_nm"] = (rng.integers(0, 500, rows) + 0.5) * size
    table |= {name: rng.integers(0, 2**63, rows).astype(np.uint64) for name in ("pre_id", "post_id")}
    table |= {"size_voxels": rng.integers(1, 10**6, rows), "score": rng.random(rows)}
    table["type"] = rng.choice(np.array(["unknown", "excitatory", "inhibitory"], dtype=object), rows)
    table["target"] = rng.choice(np.array(["unknown", "spine", "shaft", "soma"], dtype=object), rows)
    return table


def tree(number, nodes, edges="", name=""):
    places = "".join(f'<node id="{node}" x="{x}" y="{y}" z="{z}"/>' for node, (x, y, z) in nodes.items())
    ends = "".join(f'<edge source="{a}" target="{b}"/>' for a, b in edges)
    return f'<thing id="{number}" name="{name}"><nodes>{places}</nodes><edges>{ends}</edges></thing>'


def nml(path, *trees, comments=(), scale='x="8" y="4" z="40" unit="nanometer"'):
    said = "".join(f'<comment node="{node}" content="{text}"/>' for node, text in comments)
    head = f"<parameters><scale {scale}/></parameters>"
    path.write_text(f"<things>{head}{''.join(trees)}<comments>{said}</comments><groups/></things>")
    return path


THREE = {10: (1, 2, 3), 11: (4, 5, 6), 12: (7, 8, 9)}


def test_what_is_written_is_read_back(tmp_path):
    table = synapses(300)
    write_synapse_nml(tmp_path / "a.nml", table, SIZE)
    back = read_synapse_nml(tmp_path / "a.nml", SIZE)
    assert set(back) == {*SYNAPSE_COLUMNS, "group"}
    for name in SYNAPSE_COLUMNS:
        np.testing.assert_array_equal(back[name], table[name], err_msg=name)


def test_places_inside_a_voxel_come_back_as_its_centre(tmp_path):
    table = synapses(50)
    rng = np.random.default_rng(1)
    moved = {name: values + rng.uniform(-1.9, 1.9, 50) if name.endswith("_nm") else values
             for name, values in table.items()}  # fmt: skip
    write_synapse_nml(tmp_path / "a.nml", moved, SIZE)
    back = read_synapse_nml(tmp_path / "a.nml")
    for name in POSITION_COLUMNS:
        np.testing.assert_array_equal(back[name], table[name])


def test_the_file_is_what_webknossos_expects(tmp_path):
    table = synapses(4)
    table["cause"] = np.array(["b", 'a "quoted" <cause> & more', "b", "c\x00"], dtype=object)
    write_synapse_nml(tmp_path / "a.nml", table, SIZE, groups="cause", name="run & co")
    root = ElementTree.parse(tmp_path / "a.nml").getroot()
    assert root.find("parameters/experiment").get("name") == "run & co"
    assert [root.find("parameters/scale").get(axis) for axis in "xyz"] == ["8", "4", "40"]
    things = root.findall("thing")
    nodes = [node.get("id") for node in root.iter("node")]
    assert len(things) == 4 and len(nodes) == len(set(nodes)) == 12
    first = [node.attrib for node in things[0].iter("node")]
    assert [int(first[0]["x"]), int(first[0]["y"]), int(first[0]["z"])] == [
        int(table["pre_x_nm"][0] // 8), int(table["pre_y_nm"][0] // 4), int(table["pre_z_nm"][0] // 40)
    ]  # fmt: skip
    assert [(e.get("source"), e.get("target")) for e in things[1].iter("edge")] == [("4", "5"), ("5", "6")]
    comments = {comment.get("node"): comment.get("content") for comment in root.iter("comment")}
    assert comments["4"] == "pre" and comments["6"] == "post"
    assert comments["5"] == f"cleft score {table['score'][1]:.3g} {table['type'][1]}"
    groups = {group.get("id"): group.get("name") for group in root.iter("group")}
    assert list(groups.values()) == ['a "quoted" <cause> & more', "b", "c\ufffd"]
    assert [groups[thing.get("groupId")] for thing in things] == [g.replace("\0", "\ufffd") for g in table["cause"]]
    colours = {thing.get("groupId"): thing.get("color.r") + thing.get("color.g") for thing in things}
    assert len(set(colours.values())) == 3
    metadata = {e.get("key"): e.get("stringValue") or e.get("numberValue") for e in things[2].iter("metadataEntry")}
    assert metadata["id"] == str(table["id"][2]) and metadata["cause"] == "b"
    assert float(metadata["score"]) == table["score"][2]


def test_the_skeleton_reader_reads_it_too(tmp_path):
    table = synapses(20)
    write_synapse_nml(tmp_path / "a.nml", table, SIZE)
    skeletons = read_nml(tmp_path / "a.nml")
    assert np.unique(skeletons["skeleton"], return_counts=True)[1].tolist() == [3] * 20
    np.testing.assert_array_equal(skeletons["z_nm"][1::3], table["z_nm"])


def test_a_place_that_is_not_known_is_left_out_and_comes_back_unknown(tmp_path):
    table = synapses(3)
    for axis in "zyx":
        table[f"pre_{axis}_nm"][1] = np.nan
        table[f"post_{axis}_nm"][2] = table[f"pre_{axis}_nm"][2] = np.nan
    write_synapse_nml(tmp_path / "a.nml", table, SIZE)
    back = read_synapse_nml(tmp_path / "a.nml")
    for name in SYNAPSE_COLUMNS:
        np.testing.assert_array_equal(back[name], table[name], err_msg=name)


def test_many_pieces_and_none_make_whole_files(tmp_path, monkeypatch):
    monkeypatch.setattr("bouton.volume.synapse_nml._ROWS_A_PIECE", 7)
    for rows in (0, 1, 7, 30):
        table = synapses(rows)
        write_synapse_nml(tmp_path / f"{rows}.nml", table, SIZE, groups="type")
        back = read_synapse_nml(tmp_path / f"{rows}.nml")
        np.testing.assert_array_equal(back["id"], table["id"])
        np.testing.assert_array_equal(back["group"], table["type"])
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_comments_tell_the_roles_in_any_order(tmp_path, order):
    words = ["Presynaptic", "cleft: nice one", "post, sure"]
    comments = [(node, words[role]) for node, role in zip(THREE, order, strict=True)]
    back = read_synapse_nml(nml(tmp_path / "a.nml", tree(5, THREE), comments=comments))
    columns = ["pre_x_nm", "x_nm", "post_x_nm"]
    expected = [(x + 0.5) * 8 for x, _, _ in THREE.values()]
    assert [back[columns[role]][0] for role in order] == expected
    assert back["id"].tolist() == [5] and back["score"].tolist() == [1] and back["type"].tolist() == ["unknown"]


def test_without_comments_the_node_between_the_others_is_the_cleft(tmp_path):
    back = read_synapse_nml(nml(tmp_path / "a.nml", tree(5, THREE, [(12, 10), (10, 11)])))
    assert [back["x_nm"][0], back["pre_x_nm"][0], back["post_x_nm"][0]] == [12, 36, 60]
    # One comment is enough to turn it round.
    back = read_synapse_nml(nml(tmp_path / "b.nml", tree(5, THREE, [(12, 10), (10, 11)]), comments=[(12, "pre")]))
    assert [back["x_nm"][0], back["pre_x_nm"][0], back["post_x_nm"][0]] == [12, 60, 36]


def test_groups_named_like_a_type_give_the_type(tmp_path):
    path = nml(tmp_path / "a.nml", tree(5, THREE, [(10, 11), (11, 12)]).replace("<thing ", '<thing groupId="3" '))
    path.write_text(path.read_text().replace("<groups/>", '<groups><group id="9" name="x">'
                    '<group id="3" name="inhibitory"/></group></groups>'))  # fmt: skip
    back = read_synapse_nml(path)
    assert back["group"].tolist() == ["inhibitory"] and back["type"].tolist() == ["inhibitory"]


def test_empty_trees_count_for_nothing(tmp_path):
    back = read_synapse_nml(nml(tmp_path / "a.nml", tree(4, {}), tree(5, THREE, [(10, 11), (11, 12)])))
    assert back["id"].tolist() == [5]


@pytest.mark.parametrize(
    ("trees", "comments", "words"),
    [
        ([tree(7, dict(list(THREE.items())[:2]), [(10, 11)])], (), ["tree 7", "2 node(s)", "three nodes"]),
        ([tree(7, THREE | {13: (0, 0, 0)})], (), ["tree 7", "4 node(s)"]),
        ([tree(7, THREE)], (), ["tree 7", "which node is the cleft"]),
        ([tree(7, THREE)], [(10, "pre"), (11, "pre"), (12, "post")], ["tree 7", "pre, pre, post"]),
        ([tree(7, THREE, [(10, 99)])], (), ["damaged"]),
        ([tree(7, {1: ("a", 2, 3)})], (), ["damaged"]),
        ([tree(7, THREE), tree(8, THREE)], (), ["two nodes 10"]),
    ],
)
def test_trees_that_are_no_synapses_are_refused_by_name(tmp_path, trees, comments, words):
    with pytest.raises(DataError) as error:
        read_synapse_nml(nml(tmp_path / "a.nml", *trees, comments=comments))
    assert all(word in str(error.value) for word in ["a.nml", *words]), str(error.value)
    assert "\n" not in str(error.value)


def test_another_voxel_size_is_refused_naming_both(tmp_path):
    path = nml(tmp_path / "a.nml", tree(5, THREE, [(10, 11), (11, 12)]))
    with pytest.raises(DataError, match=r"\[30, 6, 6\].*\[40, 4, 8\]"):
        read_synapse_nml(path, (30, 6, 6))
    micrometre = nml(tmp_path / "b.nml", tree(5, THREE, [(10, 11), (11, 12)]),
                     scale='x="0.008" y="0.004" z="0.04" unit="micrometer"')  # fmt: skip
    np.testing.assert_allclose(read_synapse_nml(micrometre, SIZE)["z_nm"], 6.5 * 40)


@pytest.mark.parametrize("content", [b"", b"<things>", b"no xml", b"<things></things>"])
def test_damaged_files_are_told(tmp_path, content):
    (tmp_path / "a.nml").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.nml"):
        read_synapse_nml(tmp_path / "a.nml")
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip"):
        read_synapse_nml(tmp_path / "a.zip")


def test_bad_metadata_names_the_tree(tmp_path):
    write_synapse_nml(tmp_path / "a.nml", synapses(3), SIZE)
    text = (tmp_path / "a.nml").read_text().replace('key="pre_id" stringValue="', 'key="pre_id" stringValue="x', 1)
    (tmp_path / "a.nml").write_text(text)
    with pytest.raises(DataError, match=r"tree 1 .*pre_id"):
        read_synapse_nml(tmp_path / "a.nml")


def test_places_that_are_none_are_refused(tmp_path):
    table = synapses(3)
    table["y_nm"][1] = np.nan
    with pytest.raises(DataError, match=f"synapse {table['id'][1]} without a place of its cleft"):
        write_synapse_nml(tmp_path / "a.nml", table, SIZE)
    table = synapses(3)
    table["pre_y_nm"][2] = 1e300
    with pytest.raises(DataError, match="of its pre"):
        write_synapse_nml(tmp_path / "a.nml", table, SIZE)
    with pytest.raises(DataError, match="no column cause"):
        write_synapse_nml(tmp_path / "a.nml", synapses(3), SIZE, groups="cause")
    assert not (tmp_path / "a.nml").exists()


def test_a_zip_of_webknossos_with_another_kind_of_trees_is_told():
    folder = DATA / "webknossos_annotations"
    if not folder.is_dir():
        pytest.skip(f"no real annotations in {folder} (BOUTON_DATA)")
    with pytest.raises(DataError, match=r"tree 3.*expected three nodes"):
        read_synapse_nml(folder / "test_a.nml")
