"""Lines as the server hands them out and as files, read back by Neuroglancer's own Python reader."""

import json

import numpy as np
import pytest
from neuroglancer.read_precomputed_annotations import AnnotationReader

import fake_run
from bouton.errors import DataError
from bouton.view.annotation_files import write_annotations
from bouton.view.annotations import RELATIONSHIPS, SynapseLines, spatial_key
from bouton.volume.synapse_columns import TARGETS, TYPES

SIZE = (30.0, 10.0, 10.0)


def table(count=2500):
    found = fake_run.synapses(count)
    rng = np.random.default_rng(2)
    found["target"] = rng.choice(np.array(TARGETS, dtype=object), count)
    found["id"] = found["id"] + np.uint64(2**62)
    found["post_id"][:5] = 0
    return found


@pytest.fixture(scope="module")
def lines():
    return SynapseLines(table(), fake_run.SHAPE, SIZE)


@pytest.fixture(scope="module")
def reader(lines, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines") / "synapses"
    write_annotations(folder, lines)
    return AnnotationReader(f"file://{folder}/")


def xyz(found, side, row):
    return [found[f"{side}_{axis}_nm"][row] / size for axis, size in zip("xyz", (10, 10, 30), strict=True)]


def test_the_reader_finds_every_line_by_its_id(reader, lines):
    found = lines.table
    for row in range(0, 2500, 83):
        line = reader.by_id[int(found["id"][row])]
        np.testing.assert_allclose(line.point_a, xyz(found, "pre", row), rtol=1e-6)
        np.testing.assert_allclose(line.point_b, xyz(found, "post", row), rtol=1e-6)
        score, size, kind, target = line.props
        assert score == pytest.approx(found["score"][row]) and size == found["size_voxels"][row]
        assert (TYPES[kind], TARGETS[target]) == (found["type"][row], found["target"][row])
        partners = [[int(i) for i in each] for each in line.segments]
        assert partners == [[found[f"{side}_id"][row]] if found[f"{side}_id"][row] else [] for side in RELATIONSHIPS]
    with pytest.raises(KeyError):
        reader.by_id[3]


def test_the_reader_finds_the_lines_of_a_segment(reader, lines):
    for side in RELATIONSHIPS:
        ids = lines.table[f"{side}_id"]
        for segment in np.unique(ids[ids > 0]).tolist():
            found = sorted(int(line.id) for line in reader.relationships[side][segment])
            assert found == sorted(lines.table["id"][ids == segment].tolist())
    assert 0 not in reader.relationships["post"]


def test_the_levels_together_hold_every_line_once(reader, lines):
    assert len(reader.spatial) > 1
    assert len(list(reader.spatial[0][(0, 0, 0)])) == 1000
    seen = []
    for index in reader.spatial:
        in_level = set()
        for cell in filter(index.__contains__, np.ndindex(*index.metadata["grid_shape"])):
            here = index[cell]
            assert len(here) <= index.metadata["limit"]
            in_level |= {int(line.id) for line in here}
        seen += sorted(in_level)
    assert sorted(seen) == sorted(lines.table["id"].tolist())


def test_the_server_gives_the_same_parts(reader, lines):
    assert reader.by_id._kvstore is not None
    for number, level in enumerate(lines.levels):
        for cell in level.cells()[::5].tolist():
            served = lines.part(spatial_key(number), "_".join(map(str, cell)))
            decoded = reader._decode_multiple_annotations(None, served)
            assert [line.id for line in decoded] == [line.id for line in reader.spatial[number][tuple(cell)]]
    singles = dict(lines.singles())
    for row in range(0, 2500, 499):
        number = int(lines.ids[row])
        assert lines.part("by_id", str(number)) == singles[number]
    partners = dict(lines.of_partners("pre"))
    assert all(lines.part("pre", str(segment)) == content for segment, content in partners.items())
    assert lines.part("post", "12345") == bytes(8)


def test_the_info_says_what_lies_there(lines):
    info = lines.info()
    assert info["upper_bound"] == [112, 96, 20]
    assert [level["key"] for level in info["spatial"]] == [spatial_key(i) for i in range(len(lines.levels))]
    assert "sharding" not in json.dumps(info)
    for level in info["spatial"]:
        np.testing.assert_allclose(np.array(level["grid_shape"]) * level["chunk_size"], info["upper_bound"])


@pytest.mark.parametrize(
    ("key", "name"),
    [("spatial0", "1_0_0"), ("spatial9", "0_0_0"), ("spatial0", "0_0"), ("by_id", "4"), ("by_id", "x"),
     ("cells", "0_0_0"), ("pre", "-1"), ("spatial0", "0_0_" + "9" * 30), ("by_id", "9" * 20)],
)  # fmt: skip
def test_parts_that_are_none_are_told(lines, key, name):
    with pytest.raises(DataError):
        lines.part(key, name)


def test_few_files_and_none_left_behind(tmp_path, lines):
    write_annotations(tmp_path / "a", lines)
    files = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) == 1 + 3 + len(lines.levels)
    with pytest.raises(DataError, match="exists already"):
        write_annotations(tmp_path / "a", lines)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_no_synapses_make_a_collection_that_opens(tmp_path):
    empty = SynapseLines({name: values[:0] for name, values in table().items()}, fake_run.SHAPE, SIZE)
    write_annotations(tmp_path / "a", empty)
    reader = AnnotationReader(f"file://{tmp_path}/a/")
    assert (0, 0, 0) not in reader.spatial[0] and 5 not in reader.by_id


def test_an_end_that_is_not_known_lies_at_the_cleft():
    found = table(4)
    for axis in "zyx":
        found[f"pre_{axis}_nm"][1] = np.nan
    ends = SynapseLines(found, fake_run.SHAPE, SIZE).records["ends"]
    np.testing.assert_allclose(ends[1, :3], [found["x_nm"][1] / 10, found["y_nm"][1] / 10, found["z_nm"][1] / 30])
    found["z_nm"][1] = np.nan
    with pytest.raises(DataError, match=f"synapse {found['id'][1]} without a place of its pre"):
        SynapseLines(found, fake_run.SHAPE, SIZE)
