"""``bouton view`` and ``bouton report`` as a user starts them."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import typer
from fastapi.testclient import TestClient
from typer.testing import CliRunner

import fake_run
from bouton.cli import report, view
from bouton.errors import RunError, SpecError
from bouton.server.app import make_app
from bouton.server.serve import reserve_port
from bouton.volume.run_folder import open_run


def app() -> typer.Typer:
    made = typer.Typer()
    made.command("view")(view.command)
    made.command("report")(report.command)
    return made


def invoke(*arguments: str) -> str:
    answer = CliRunner().invoke(app(), list(arguments))
    if answer.exception and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer.output


def test_report_says_where_it_is(tmp_path: Path) -> None:
    run = fake_run.FakeRun(tmp_path / "demo")
    run.save()
    words = invoke("report", str(run.folder)).replace("\n", "")
    assert str(run.folder / "report" / "index.html") in words
    assert (run.folder / "report" / "index.html").is_file()


@pytest.mark.parametrize("verb", ["view", "report"])
def test_no_run(tmp_path: Path, verb: str) -> None:
    with pytest.raises(SpecError, match="no run"):
        invoke(verb, str(tmp_path))


@pytest.mark.parametrize("verb", ["view", "report"])
def test_help_teaches_by_example(verb: str) -> None:
    assert f"bouton {verb} runs/demo" in invoke(verb, "--help")


def test_view_on_a_port_in_use(tmp_path: Path) -> None:
    run = fake_run.FakeRun(tmp_path / "demo")
    run.save()
    with reserve_port(0) as taken, pytest.raises(RunError, match="in use"):
        invoke("view", str(run.folder), "--no-browser", "--port", str(taken.getsockname()[1]))


def test_view_opens_a_voxel(tmp_path: Path) -> None:
    run = fake_run.FakeRun(tmp_path / "demo")
    run.save()
    z, y, x = open_run(run.folder).voxel_size_nm
    place = view._place(run.folder, "4,20,10")
    assert place == f"at?z_nm={4.5 * z:.1f}&y_nm={20.5 * y:.1f}&x_nm={10.5 * x:.1f}&run=demo"
    answer = TestClient(make_app(run.folder), base_url="http://127.0.0.1").get(f"/{place}", follow_redirects=False)
    assert answer.status_code == 307
    with pytest.raises(SpecError, match="at-zyx"):
        invoke("view", str(run.folder), "--at-zyx", "4,20")


def test_view_opens_one_page(tmp_path: Path) -> None:
    run = fake_run.FakeRun(tmp_path / "demo")
    run.save()
    with pytest.raises(SpecError, match="different pages"):
        invoke("view", str(run.folder), "--dashboard", "--at-zyx", "4,20,10")


@pytest.mark.parametrize(
    ("options", "state", "stream"),
    [("", "state.json", "events/app"), (", dashboard=True", "/state.json", "/events")],
)
def test_view_serves_until_interrupted(tmp_path: Path, options: str, state: str, stream: str) -> None:
    run = fake_run.FakeRun(tmp_path / "demo")
    run.save()
    call = f"command({str(run.folder)!r}, port=0, no_browser=True{options})"
    script = f"from bouton.cli.view import command; {call}"
    command = [sys.executable, "-u", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().split()[1]
            with urllib.request.urlopen(f"{url}{state}", timeout=120) as answer:
                assert answer.status == 200
            # A browser holds this one open; the process must end all the same.
            with urllib.request.urlopen(f"{url}{stream}", timeout=120) as held:
                assert held.readline() in (b": here\n", b"retry: 1000\n")
                process.send_signal(signal.SIGINT)
                assert process.wait(20) == 0
        finally:
            process.kill()
        assert "Traceback" not in process.stderr.read()
