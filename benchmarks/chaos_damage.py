"""Random damage to the files of a finished run, and what reads, ``verify`` and ``--repair`` make of it."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from chaos_run import checksums

from bouton.engine import repair_run, verify_run
from bouton.errors import BoutonError
from bouton.volume.run_folder import open_run

AT_ONCE = 10


@dataclass
class Found:
    """What became of the damages."""

    count: int = 0
    kinds: Counter = field(default_factory=Counter)
    named: int = 0
    read: int = 0
    told: int = 0
    silent: int = 0
    crashes: int = 0
    restored: int = 0


def flip(path: Path, chance: random.Random) -> bool:
    """Turn one bit."""
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    return True


def truncate(path: Path, chance: random.Random) -> bool:
    """Keep a part from the beginning, maybe nothing."""
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content))])
    return True


def delete(path: Path, chance: random.Random) -> bool:
    """Remove the file."""
    path.unlink()
    return True


def swap(path: Path, chance: random.Random) -> bool:
    """Put another file of the same folder of results in its place, and it in the other's; False if they are equal."""
    others = [p for p in path.parent.rglob("*") if p.is_file() and p != path and not p.name.startswith(".")]
    if not others:
        others = [p for p in path.parents[1].rglob("*") if p.is_file() and p.suffix == path.suffix and p != path]
    other = chance.choice(sorted(others)) if others else path
    one, two = path.read_bytes(), other.read_bytes()
    if one == two:
        return False
    path.write_bytes(two)
    other.write_bytes(one)
    return True


KINDS = {"flipped": flip, "truncated": truncate, "deleted": delete, "swapped": swap}


def damage(run: Path, good: dict[str, str], count: int, chance: random.Random) -> Found:
    """Damage files, a few at a time, until it were ``count``; look at each, repair, and compare all bytes."""
    found = Found()
    outputs = read_all(run, found)
    roots = {name: run / entry.folder for name, entry in open_run(run).steps.items()}
    while found.count < count:
        harmed: set[str] = set()
        for name in chance.sample(sorted(good), min(AT_ONCE, count - found.count)):
            step, _, path = name.partition("/")
            kind = chance.choice(sorted(KINDS))
            if (roots[step] / path).exists() and KINDS[kind](roots[step] / path, chance):
                harmed.add(name)
                found.kinds[kind] += 1
        wrong = _differing(roots, good)
        found.count += len(harmed)
        _look(run, outputs, found)
        named = {_name(roots, d.step, d.path) for d in verify_run(run).damages}
        found.named += len(harmed & named) + len({n for n in harmed - named if n not in wrong})
        repair_run(run, executor="serial")
        now = checksums(run)
        found.restored += sum(now.get(name) == good[name] for name in harmed)
    return found


def _differing(roots: dict[str, Path], good: dict[str, str]) -> set[str]:
    from bouton.volume import checksum

    wrong = set()
    for name, expected in good.items():
        step, _, path = name.partition("/")
        file = roots[step] / path
        if not file.exists() or checksum(file) != expected:
            wrong.add(name)
    return wrong


def _name(roots: dict[str, Path], step: str, path: str) -> str:
    file = Path(path)
    root = roots[step]
    relative = file.relative_to(root) if file.is_absolute() else file
    text = relative.as_posix()
    return f"{step}/{text.split(root.name + '/', 1)[-1]}"


def read_all(run: Path, found: Found) -> dict[str, Any]:
    """Return every output that can be read; errors that are ours are noted."""
    values: dict[str, Any] = {}
    opened = open_run(run)
    for step, entry in opened.steps.items():
        for name, output in entry.outputs.items():
            reference = f"{step}.{name}"
            try:
                values[reference] = _read(opened, reference, output)
            except BoutonError as error:
                values[reference] = error
            except Exception as error:
                values[reference], found.crashes = error, found.crashes + 1
    return values


def _read(opened: Any, reference: str, output: Any) -> Any:
    kind = output["type"] if isinstance(output, dict) else output.type
    return opened.volume(reference)[...] if kind == "layer" else opened.table(reference)


def _look(run: Path, before: dict[str, Any], found: Found) -> None:
    for name, value in read_all(run, found).items():
        found.read += 1
        if isinstance(value, Exception):
            found.told += 1
        elif isinstance(value, np.ndarray):
            found.silent += not np.array_equal(value, before[name])
        else:
            same = value.keys() == before[name].keys()
            found.silent += not (same and all(np.array_equal(value[c], before[name][c]) for c in value))
