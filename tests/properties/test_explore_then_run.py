"""Explore a small box, then run the whole: which blocks are reused, exactly, and that it changes no byte.

A block is reused if the small run computed the same one and everything that it read has the same bytes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import bouton
from bouton.engine.events import TasksDone
from bouton.geometry import Box, Grid
from bouton.spec import Choices, load_workflow
from bouton.volume import checksum
from bouton.volume.run_folder import open_run
from properties.edges_from_image import HALO

EDGES = Path(__file__).parent / "edges_from_image.py"
SHAPE, BLOCK = (24, 64, 96), (12, 32, 32)
BLOCKS = 12
STEPS = f"""\
block_zyx: [12, 32, 32]
steps:
  edges:         {{stage: {EDGES}, reads: {{image: IMAGE}}}}
  fragments:     {{stage: fragments, reads: {{affinities: edges}}}}
  agglomeration: {{stage: agglomeration, reads: {{affinities: edges, fragments: fragments}}}}
  segmentation:  {{stage: segmentation, reads: {{fragments: fragments, merges: agglomeration.merges}}}}
"""
PHANTOM = (
    "name: whole\ngrid: {shape_zyx: [24, 64, 96], voxel_size_nm: [30, 10, 10]}\n"
    + STEPS.replace("IMAGE", "tissue.image")
    + "  tissue: {stage: phantom, params: {seed: 5}}\n"
)
DATA = "name: whole\ndata: {image: {path: image.npy, voxel_size_nm: [30, 10, 10]}}\n" + STEPS.replace("IMAGE", "image")
ONE = "0:24,0:64,0:64"
MIDDLE = "0:24,0:64,16:80"


def write(folder: Path, text: str) -> Path:
    path = folder / "whole.yaml"
    path.write_text(text)
    return path


def run(
    folder: Path, bounds: str | None = None, until: str | None = None, change: str = ""
) -> Counter[tuple[str, str]]:
    """Run the workflow of a folder; return the blocks that were reused, by step and part."""
    box = Box.parse(bounds) if bounds else None
    flow = load_workflow(folder / "whole.yaml", Choices(bounds=box, until=until, overrides=[change] if change else []))
    events: list = []
    bouton.run_workflow(flow, folder / "runs", "serial", subscribers=[events.append]).raise_if_failed()
    reused: Counter[tuple[str, str]] = Counter()
    for event in events:
        if isinstance(event, TasksDone):
            reused[event.step, event.part] += event.reused
    return reused


def files(run_folder: Path) -> dict[str, str]:
    """Return the checksum of every file of every result that ``run.json`` names; ledgers and scratch apart."""
    found = {}
    for step in open_run(run_folder).steps.values():
        root = run_folder / step.folder
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            hidden = any(part.startswith((".", "ledger", "logs")) for part in inside.parts)
            if path.is_file() and not hidden and path.suffix != ".json":
                found[f"{step.name}/{inside}"] = checksum(path)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    write(folder, PHANTOM)
    run(folder)
    found = files(folder / "runs/whole")
    assert len(found) > 5 * BLOCKS
    labels = open_run(folder / "runs/whole").volume("segmentation")[...]
    assert 5 < len(np.unique(labels)) < 500
    return found


# The box ends at x = 64, where a block's halo has less to read than in the whole: its left blocks are reused alone.
# Of the middle box, blocks of 32:64 are those of the whole; their halos (29:67) lie inside of it.
@pytest.mark.parametrize(("box", "same_blocks", "same_reads"), [(ONE, 8, 4), (MIDDLE, 4, 4)])
def test_blocks_that_coincide_are_reused(
    box: str, same_blocks: int, same_reads: int, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    write(tmp_path, PHANTOM)
    assert not sum(run(tmp_path, box).values())
    reused = run(tmp_path)
    assert reused["tissue", "tissue"] == same_blocks
    assert reused["edges", "edges"] == reused["fragments", "basins"] == same_reads
    # What depends on the whole is computed: merges are never reused, and ids only where they are the same.
    assert not any(reused[step, part] for step, part in reused if step == "agglomeration" and part == "agglomerate")
    assert reused["segmentation", "segmentation"] <= same_blocks
    assert files(tmp_path / "runs/whole") == undisturbed
    # And back to the box: nothing to do.
    assert not run(tmp_path, box)


@pytest.mark.parametrize("seed", range(2))
def test_any_box_then_the_whole(seed: int, undisturbed: dict[str, str], tmp_path: Path) -> None:
    """Random boxes, off the grid, too: reused are exactly the blocks of which brute force says that they may be."""
    random = np.random.default_rng(seed)
    start = [int(random.integers(0, size // 2)) for size in SHAPE]
    stop = [int(random.integers(a + size // 3, size + 1)) for a, size in zip(start, SHAPE, strict=True)]
    box = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
    write(tmp_path, PHANTOM)
    run(tmp_path, str(box), until="fragments")
    explored = {name: open_run(tmp_path / "runs/whole").volume(name) for name in ("tissue.image", "edges.affinities")}
    reused = run(tmp_path, until="fragments")
    whole = {name: open_run(tmp_path / "runs/whole").volume(name) for name in explored}
    everything = Box.of_shape(SHAPE)

    def expected(halo: tuple[int, int, int], read: str | None) -> int:
        count = 0
        for index in Grid(everything, BLOCK):
            core = Grid(everything, BLOCK).core(index)
            around = core.grow(halo) & everything
            coincides = box.contains(core) and core.grow(halo) & box == around
            count += coincides and (
                read is None or np.array_equal(explored[read].read(around), whole[read].read(around))
            )
        return count

    assert reused["tissue", "tissue"] == expected((0, 0, 0), None)
    assert reused["edges", "edges"] == expected(HALO, "tissue.image")
    assert reused["fragments", "basins"] == expected((1, 1, 1), "edges.affinities")
    assert files(tmp_path / "runs/whole") == {
        name: found for name, found in undisturbed.items() if name.split("/")[0] in ("tissue", "edges", "fragments")
    }


def test_a_changed_parameter_upstream(undisturbed: dict[str, str], tmp_path: Path) -> None:
    """The tissue is the same, so it is reused; nothing that comes after it is."""
    write(tmp_path, PHANTOM)
    run(tmp_path, ONE, change="steps.edges.params.dark=70")
    reused = run(tmp_path)
    assert {key: count for key, count in reused.items() if count} == {("tissue", "tissue"): 8}
    assert files(tmp_path / "runs/whole") == undisturbed


@pytest.mark.parametrize(
    ("voxel", "readers"),
    [
        ((0, 0, 0), 1),
        ((12, 32, 40), 4),  # at a corner in z and y: halos of (1, 3, 3) of four blocks hold it
        ((11, 31, 63), 8),
    ],
)
def test_changed_voxels_upstream(voxel: tuple[int, int, int], readers: int, tmp_path: Path) -> None:
    """Other data under the same name: exactly the blocks that read the changed voxel are computed again."""
    image = np.random.default_rng(2).integers(40, 200, SHAPE).astype(np.uint8)
    np.save(tmp_path / "image.npy", image)
    write(tmp_path, DATA)
    run(tmp_path, until="edges")
    image[voxel] ^= 0xFF
    np.save(tmp_path / "image.npy", image)
    assert run(tmp_path, until="edges")["edges", "edges"] == BLOCKS - readers
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    np.save(fresh / "image.npy", image)
    write(fresh, DATA)
    run(fresh, until="edges")
    assert files(tmp_path / "runs/whole") == files(fresh / "runs/whole")


@pytest.mark.parametrize("kill_in", [ONE, None], ids=["box", "whole"])
def test_a_kill_in_between(kill_in: str | None, undisturbed: dict[str, str], tmp_path: Path) -> None:
    """The coordinator dies in the box, which is never finished, or in the whole run after the box."""
    path = write(tmp_path, PHANTOM)
    if kill_in is None:
        run(tmp_path, ONE)
    before = len(done_events(tmp_path))
    command = [
        sys.executable,
        "-m",
        "bouton",
        "run",
        str(path),
        "--runs",
        str(tmp_path / "runs"),
        "--executor",
        "serial",
    ]
    process = subprocess.Popen(
        [*command, *(["--bounds-zyx", kill_in] if kill_in else [])], stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while len(done_events(tmp_path)) < before + 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None, "it ended before it was killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    reused = run(tmp_path)
    assert reused["tissue", "tissue"] <= 8
    assert files(tmp_path / "runs/whole") == undisturbed
    assert not run(tmp_path)


def done_events(folder: Path) -> list[str]:
    """Return the lines of the log that tell of finished tasks."""
    path = folder / "runs/whole/events.jsonl"
    return [line for line in path.read_text().splitlines() if '"TasksDone"' in line] if path.exists() else []


def test_damage_in_the_box_is_not_copied(undisturbed: dict[str, str], tmp_path: Path) -> None:
    """A chunk of the small run that lost its bytes since is computed anew."""
    write(tmp_path, PHANTOM)
    run(tmp_path, ONE, until="tissue")
    chunks = [
        path for path in (open_run(tmp_path / "runs/whole").path("tissue.image")).rglob("c/*/*/*") if path.is_file()
    ]
    chunks[0].write_bytes(bytes(len(chunks[0].read_bytes())))
    chunks[1].unlink()
    reused = run(tmp_path)
    assert reused["tissue", "tissue"] == 6
    assert files(tmp_path / "runs/whole") == undisturbed
