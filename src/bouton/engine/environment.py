"""What a run computes with: versions of bouton, Python and packages, the processor, settings that change arithmetic.

``environments.json`` in a run folder lists each one that worked on the run, the latest last.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from bouton.volume import write_bytes

NAME = "environments.json"
PROCESSOR_FLAGS = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")
SETTINGS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "NUMBA_CPU_NAME",
    "NUMBA_CPU_FEATURES", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "CUDA_VISIBLE_DEVICES",
    "CUBLAS_WORKSPACE_CONFIG", "PYTORCH_CUDA_ALLOC_CONF", "NVIDIA_TF32_OVERRIDE",
)  # fmt: skip
Environment = dict[str, dict[str, str]]


def environment() -> Environment:
    """Return what this process computes with: ``versions``, ``machine`` and ``settings``, names and values as text.

    ``versions`` are of bouton, Python and every installed package that bouton can come to import, directly or not.
    """
    return {
        "versions": {"python": platform.python_version(), **_packages("bouton")},
        "machine": _machine(),
        "settings": {name: os.environ[name] for name in SETTINGS if name in os.environ},
    }


def _packages(root: str) -> dict[str, str]:
    """Return the installed ones among ``root`` and all that it, its extras and they in turn require."""
    found: dict[str, str] = {}
    left = [root]
    while left:
        name = _plain(left.pop())
        if name in found:
            continue
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found[name] = package.version
        left += [need for need in package.requires or () if _may_run(need, name == root)]
    return dict(sorted(found.items()))


def _may_run(requirement: str, of_root: bool) -> bool:
    """Return whether what a package requires may be imported: extras of bouton but its tests', none of others."""
    return "extra ==" not in requirement or (of_root and not re.search(r"extra == .dev.", requirement))


def _plain(requirement: str) -> str:
    """Return the normalised name (PEP 503) that a requirement begins with."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", match.group()).lower() if match else ""


def _machine() -> dict[str, str]:
    model, flags = _processor()
    found = {
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "c_library": " ".join(platform.libc_ver()).strip(),
        "processor": model or platform.processor(),
        "processor_flags": " ".join(flag for flag in PROCESSOR_FLAGS if flag in flags),
        "processors": str(os.cpu_count() or 1),
        "gpu_driver": _first_line(Path("/proc/driver/nvidia/version")),
    }
    return {name: value for name, value in found.items() if value}


def _processor() -> tuple[str, set[str]]:
    """Return the name of the first processor and its flags, as Linux tells them."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "", set()
    pairs = (line.partition(":") for line in text.split("\n\n")[0].split("\n"))
    lines = {key.strip(): value.strip() for key, _, value in pairs}
    return lines.get("model name", ""), set(lines.get("flags", "").split())


def _first_line(path: Path) -> str:
    try:
        return path.read_text().split("\n")[0].strip()
    except OSError:
        return ""


def note_environment(folder: Path) -> None:
    """Add what this process computes with to a run folder's list, if it is not its last entry."""
    known, now = read_environments(folder), environment()
    if not known or known[-1] != now:
        write_bytes(folder / NAME, json.dumps([*known, now], indent=1, sort_keys=True).encode())


def read_environments(folder: Path) -> list[Environment]:
    """Return what worked on a run, the latest last; empty where nothing is known."""
    try:
        values = json.loads((folder / NAME).read_bytes())
    except (OSError, ValueError):
        # A list of witnesses: a run that lost it is as good as before.
        return []
    return [each for each in values if isinstance(each, dict)] if isinstance(values, list) else []


def differences(
    then: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]
) -> list[tuple[str, str, str]]:
    """Return (name, then, now) of what differs: packages of both alone, all of the machine and the settings."""
    found = []
    for group in ("versions", "machine", "settings"):
        old, new = then.get(group, {}), now.get(group, {})
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name) and (group != "versions" or name in old):
                found.append((name, old.get(name, "-"), new.get(name, "-")))
    return found
