"""Whole runs whose data lie in an object store: the bytes of a run on disk, kills, damage, repair, passing faults."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bouton.engine import run_workflow, verify
from bouton.engine.ledger import Ledger
from bouton.engine.verify import repair_run, verify_run
from bouton.errors import BoutonError, DataError
from bouton.volume import objects as objects_module
from bouton.volume.objects import ObjectPath
from bouton.volume.places import Place
from bouton.volume.run_folder import open_run
from engine.flows import checksums, shapes_flow

pytest.importorskip("moto", reason="the S3 server of the dev extra is not installed")

from object_server import Fault, faulty, s3_place, s3_server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server("bucket") as url:
        yield url


@pytest.fixture
def store(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    return s3_place(server, monkeypatch, request)


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_a_run_in_a_store_has_the_bytes_of_one_on_disk(tmp_path: Path, store: str, executor: str) -> None:
    flow = shapes_flow()
    here = run_workflow(flow, tmp_path / "here", executor="serial")
    there = run_workflow(replace(flow, store=store), tmp_path / "there", executor=executor, workers=2)
    assert there.state == "done"
    assert checksums(there.folder) == checksums(here.folder)
    mine, its = open_run(here.folder), open_run(there.folder)
    assert str(its.data) == f"{store}/toy"
    for name in mine.steps:
        for output, info in mine.steps[name].outputs.items():
            ref = f"{name}.{output}"
            assert isinstance(its.path(ref), ObjectPath)
            if info["type"] == "layer":
                np.testing.assert_array_equal(its.volume(ref)[...], mine.volume(ref)[...])
            elif info["type"] == "table":
                for column, values in mine.table(ref).items():
                    np.testing.assert_array_equal(its.table(ref)[column], values)
    # No voxel and no row of it lies in the run folder.
    assert not [path for path in there.folder.rglob("*") if path.suffix == ".parquet" or path.name == "zarr.json"]
    again = run_workflow(replace(flow, store=store), tmp_path / "there", executor="serial")
    assert [summary.computed for summary in again.steps.values()] == [0, 0]


def _objects(folder: Path) -> list[ObjectPath]:
    run = open_run(folder)
    data: Place = run.data
    assert isinstance(data, ObjectPath)
    with_ledger = []
    for step in run.steps.values():
        with Ledger(folder / step.folder / "ledger.sqlite", readonly=True) as ledger:
            with_ledger += [data / step.folder / row.file.path for row in ledger.outputs()]
    return sorted(with_ledger)


def test_damaged_and_lost_objects_are_found_and_repaired(tmp_path: Path, store: str) -> None:
    folder = run_workflow(replace(shapes_flow(), store=store), tmp_path, executor="serial").folder
    before, chance = checksums(folder), random.Random(0)
    files = _objects(folder)
    assert not verify_run(folder).damages
    shards = [path for path in files if path.name != "zarr.json"]
    lost, flipped, short = chance.sample(shards, 3)
    lost.unlink()
    data = bytearray(flipped.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    flipped.write_bytes(bytes(data))
    short.write_bytes(short.read_bytes()[:-1])
    found = verify_run(folder).damages
    assert {str(open_run(folder).data / damage.path) for damage in found} == {str(lost), str(flipped), str(short)}
    repair_run(folder, executor="serial")
    assert not verify_run(folder).damages
    assert checksums(folder) == before


def test_verify_reads_each_object_once_and_tells_a_store_that_refuses(
    tmp_path: Path, store: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_workflow(replace(shapes_flow(), store=store), tmp_path, executor="serial").folder
    files = _objects(folder)
    # One object a batch, where it is no smaller than that.
    for most in (verify.BATCH_BYTES, 1):
        monkeypatch.setattr(verify, "BATCH_BYTES", most)
        with faulty(server) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
            report = verify_run(folder)
            assert (report.files, report.damages) == (len(files), ())
            asked = [path for _, path, *_ in proxy.seen if "list-type" not in path]
            assert len(asked) == len(files)
    with faulty(server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.faults.append(Fault("GET", files[0].key, 403, "AccessDenied", times=99))
        with pytest.raises(DataError, match=r"AccessDenied.*credentials"):
            verify_run(folder)
        assert proxy.seen


def test_a_lost_object_is_computed_again_by_the_next_run(tmp_path: Path, store: str) -> None:
    flow = replace(shapes_flow(), store=store)
    folder = run_workflow(flow, tmp_path, executor="serial").folder
    before = checksums(folder)
    next(path for path in _objects(folder) if "/c/" in str(path)).unlink()
    assert run_workflow(flow, tmp_path, executor="serial").state == "done"
    assert checksums(folder) == before


def test_passing_faults_change_nothing(
    tmp_path: Path, server: str, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All faults may meet one object.
    monkeypatch.setattr(objects_module, "RETRIES", {"max_retries": 90, "initial_delay": "1ms", "max_delay": "2ms"})
    here = run_workflow(shapes_flow(), tmp_path / "here", executor="serial")
    with faulty(server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        chance = random.Random(1)
        for _ in range(60):
            method, status = chance.choice(["PUT", "GET", "HEAD"]), chance.choice([0, -1, 429, 500, 503])
            proxy.faults.append(Fault(method, f"/{chance.randrange(3)}", status, "SlowDown"))
        there = run_workflow(replace(shapes_flow(), store=store), tmp_path / "there", executor="serial")
        assert there.state == "done"
        assert sum(fault.times == 0 for fault in proxy.faults) > 20
        assert checksums(there.folder) == checksums(here.folder)


def test_a_store_that_fails_for_good_fails_the_blocks_and_says_so(
    tmp_path: Path, server: str, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty(server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        flow = replace(shapes_flow(), store=store)
        proxy.faults.append(Fault("PUT", "/c/1/", 403, "AccessDenied", times=10**6))
        summary = run_workflow(flow, tmp_path, executor="serial", retries=0)
        assert summary.state == "failed"
        with pytest.raises(BoutonError, match="AccessDenied"):
            summary.raise_if_failed()
        proxy.faults.clear()
        assert run_workflow(flow, tmp_path, executor="serial").state == "done"


_COORDINATOR = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {tests!r})
from engine.flows import shapes_flow
from bouton.engine import run_workflow, verify
run_workflow(replace(shapes_flow(), store={store!r}), Path({runs!r}), executor="processes", workers=2)
"""


def test_killed_coordinators_and_workers_cost_no_byte(tmp_path: Path, store: str) -> None:
    here = run_workflow(shapes_flow(), tmp_path / "here", executor="serial")
    tests = str(Path(__file__).parents[1])
    code = _COORDINATOR.format(tests=tests, store=store, runs=str(tmp_path / "there"))
    chance = random.Random(2)
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(1.2, 3.0))
        # Coordinator and workers are one session: all of them at once.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert checksums(tmp_path / "there" / "toy") == checksums(here.folder)
