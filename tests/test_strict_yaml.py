"""Workflow files as people (and attackers) write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bouton.errors import SpecError
from bouton.strict_yaml import read_document, unknown


def write(folder: Path, text: str) -> Path:
    path = folder / "w.yaml"
    path.write_text(text)
    return path


def test_lines_of_keys(tmp_path: Path) -> None:
    document = read_document(write(tmp_path, "a: 1\nsteps:\n  x:\n    stage: s\n"))
    assert document.tree == {"a": 1, "steps": {"x": {"stage": "s"}}}
    assert document.at("steps", "x", "stage").endswith("w.yaml:4")
    assert document.at("steps", "x", "nothing").endswith("w.yaml:3")
    assert document.at("other").endswith("w.yaml")


BOMB = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "alias"),
        ("a: 1\na: 2\n", "key 'a' twice"),
        ("a:\n  b: 1\n  b: 2\n", "w.yaml:3"),
        ("a:\n\tb: 1\n", "no valid YAML"),
        ("- 1\n- 2\n", "no mapping"),
        ("", "no mapping"),
        ("a: !!python/object/apply:os.system [id]\n", "no valid YAML"),
        ("[" * 100_000, "nested more than"),
    ],
)
def test_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        read_document(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_missing_huge_binary(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot read"):
        read_document(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="bytes"):
        read_document(write(tmp_path, "a: " + "x" * (1 << 18)))
    (tmp_path / "w.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="UTF-8"):
        read_document(tmp_path / "w.yaml")


def test_overrides(tmp_path: Path) -> None:
    document = read_document(write(tmp_path, "steps: {x: {stage: s}}\n"))
    changed = document.with_overrides(["steps.x.params.low=0.05", "name=q", "steps.x.block_zyx=[1, 2, 3]"])
    assert changed.tree == {
        "steps": {"x": {"stage": "s", "params": {"low": 0.05}, "block_zyx": [1, 2, 3]}},
        "name": "q",
    }
    assert document.tree == {"steps": {"x": {"stage": "s"}}}
    with pytest.raises(SpecError, match="PATH=VALUE"):
        document.with_overrides(["steps.x"])
    with pytest.raises(SpecError, match="leads through"):
        document.with_overrides(["steps.x.stage.deep=1"])


def test_an_unknown_word_lists_the_known_ones() -> None:
    near, far = (unknown("key", word, ["threshold", "low"], "f.yaml:3") for word in ("treshold", "zzz"))
    assert str(near) == "f.yaml:3: key; expected one of low, threshold; way out: did you mean 'threshold'?"
    assert far.fix == "name one of these, or leave it out"
