"""Habits that hold everywhere in the source: axes, printing, sizes, names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "bouton"
FILES = sorted(SOURCE.rglob("*.py"))
MAY_FLIP = {"volume", "view", "server", "geometry.py"}


def ids(path: Path) -> str:
    return str(path.relative_to(SOURCE))


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_axes_flip_only_at_the_borders(path: Path) -> None:
    if path.relative_to(SOURCE).parts[0] in MAY_FLIP:
        return
    assert "parallel=True" not in path.read_text(), f"{path}: blocks run in parallel, kernels on one thread"
    found = re.findall(r"\[::-1\]|\.T\b|\.transpose\(|swapaxes|moveaxis", path.read_text())
    assert not found, f"{path} flips axes: {found}"


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_library_is_quiet_and_careful(path: Path) -> None:
    in_cli = path.relative_to(SOURCE).parts[0] == "cli"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not in_cli:
            assert node.func.id != "print", f"{path}:{node.lineno} prints"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{path}:{node.lineno} catches everything"
            names = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)}
            # The two places where a lab's own code runs: a task in the engine, and the import of its stage file.
            foreign = "engine" in path.parts or path == SOURCE / "stage.py"
            assert foreign or not names & {"Exception", "BaseException"}, (
                f"{path}:{node.lineno} catches {ast.unparse(node.type)}"
            )
        if isinstance(node, ast.Attribute):
            assert node.attr != "basicConfig", f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_files_are_rooms_of_human_size(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 600
    assert path.stem not in {"utils", "helpers", "misc", "common"}


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_functions_are_short_and_take_few_parameters(path: Path) -> None:
    """At most 60 lines without docstring; at most 6 parameters, command-line verbs and numba kernels apart."""
    kernel = re.compile(r"njit|jit")
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if "cli" in path.parts or any(kernel.search(ast.unparse(d)) for d in node.decorator_list):
            continue
        docstring = ast.get_docstring(node, clean=False)
        lines = node.end_lineno - node.lineno + 1 - (len(docstring.splitlines()) if docstring else 0)
        assert lines <= 60, f"{path}:{node.lineno} {node.name} has {lines} lines"
        arguments = [a for a in [*node.args.args, *node.args.kwonlyargs] if a.arg not in {"self", "cls"}]
        assert len(arguments) <= 6, f"{path}:{node.lineno} {node.name} takes {len(arguments)} parameters"


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_public_things_are_documented(path: Path) -> None:
    tree = ast.parse(path.read_text())
    if tree.body:
        assert ast.get_docstring(tree), f"{path} has no module docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}:{node.lineno} {node.name} has no docstring"


def test_public_names_are_sorted_and_exist() -> None:
    import bouton

    assert list(bouton.__all__) == sorted(bouton.__all__)
    for name in bouton.__all__:
        assert getattr(bouton, name) is not None


def test_every_stage_has_a_page_and_defaults() -> None:
    import dataclasses

    from bouton.stage import load_stage, stage_names

    assert stage_names()
    for name in stage_names():
        stage = load_stage(name)
        assert (ROOT / "docs" / "stages" / f"{name}.md").is_file(), f"docs/stages/{name}.md is missing"
        assert dataclasses.is_dataclass(stage.params)
        assert stage.params.__doc__
        outputs = {**stage.tables(), **stage.layers(stage.params())}
        files = {file for part in stage.parts for file in getattr(part, "files", ())}
        # layers that depend on a parameter (the heads of a model) are not all there by default
        if not any(callable(getattr(part, "layers", None)) for part in stage.parts):
            assert set(stage.writes) <= set(outputs) | files
        page = (ROOT / "docs" / "stages" / f"{name}.md").read_text()
        for field in dataclasses.fields(stage.params):
            assert f"`{field.name}`" in page, f"docs/stages/{name}.md does not explain {field.name}"
