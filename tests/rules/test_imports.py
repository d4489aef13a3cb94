"""Who may import whom (docs/architecture.md, section 2), read from the syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "bouton"
KERNELS = {"learn", "segment", "synapse", "evaluate", "phantom", "density"}
BASE = {"errors", "geometry"}
ALLOWED = {
    "errors": set(),
    "geometry": {"errors"},
    "strict_yaml": {"errors"},
    "stage": BASE,
    "volume": BASE,
    "models": BASE,
    "cluster": set(),
    "workflow_file": BASE | {"strict_yaml", "cluster"},
    "dataset_entries": BASE | {"strict_yaml", "workflow_file"},
    "step_checks": BASE | {"stage", "volume", "strict_yaml", "workflow_file"},
    "spec": BASE | {"stage", "volume", "strict_yaml", "cluster", "workflow_file", "dataset_entries", "step_checks"},
    "stages": BASE | KERNELS | {"stage", "volume", "models"},
    "engine": BASE | {"cluster", "spec", "stage", "strict_yaml", "volume", "workflow_file"},
    "view": BASE | {"volume"},
    "report": BASE | {"volume"},
    **dict.fromkeys(KERNELS, BASE),
}
ANYTHING = {"cli", "server", "__init__", "__main__"}


def room_of(path: Path) -> str:
    """Return the first part of a module's path below the package: ``segment``, ``geometry``."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Return the rooms of bouton that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names = [f"bouton.{a.name}" for a in node.names] if module == "bouton" else [module]
        found |= {name.split(".")[1] for name in names if name.startswith("bouton.")}
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_follow_the_plan(path: Path) -> None:
    room = room_of(path)
    if room in ANYTHING:
        return
    assert room in ALLOWED, f"{path}: a room that the plan does not know"
    wrong = imports_of(path) - ALLOWED[room] - {room}
    assert not wrong, f"{path} imports {sorted(wrong)}"


def test_torch_only_in_learn() -> None:
    for path in SOURCE.rglob("*.py"):
        if room_of(path) in {"learn"}:
            continue
        tree = ast.parse(path.read_text())
        modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert "torch" not in modules, f"{path} imports torch"


def test_the_rule_can_fail(tmp_path: Path) -> None:
    sample = tmp_path / "x.py"
    sample.write_text("from bouton.engine import run\nfrom bouton import spec\n")
    assert imports_of(sample) == {"engine", "spec"}
