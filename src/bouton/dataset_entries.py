"""``datasets:`` of a workflow file: one file -> a document for each dataset, with the lines that errors name.

The steps of the file run over every dataset. What a dataset's entry says of ``description``, ``grid``,
``block_zyx``, ``bounds_zyx`` and ``data`` is laid over the rest of the file, key by key; ``set`` holds paths as
``--set`` takes them; ``without`` names steps that the dataset does not have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pydantic

from bouton.errors import SpecError
from bouton.strict_yaml import Document, unknown
from bouton.workflow_file import DatasetEntry, WorkflowFile, check_name, spec_error

SECTION = "datasets"
LAID_OVER = ("description", "grid", "block_zyx", "bounds_zyx", "data")
MAY_SET = ("steps", "data")


class _Datasets(pydantic.BaseModel):
    """What has to be known of a file before it can be made one for each dataset."""

    name: str | None = None
    datasets: dict[str, DatasetEntry] = {}


def dataset_names(document: Document) -> tuple[str, ...]:
    """Return the names of a file's datasets, in its order; none where the file has one dataset and does not say so.

    Raises
    ------
    SpecError
        ``datasets:`` is empty, an entry has an unknown key or a value of the wrong type, or a name cannot be a
        folder's.
    """
    names = tuple(_entries(document).datasets)
    if SECTION in document.tree and not names:
        raise SpecError(
            "no dataset", where=document.at(SECTION), expected="datasets: {name: {data: ...}}",
            fix="name one, or leave datasets: out",
        )  # fmt: skip
    seen: dict[str, str] = {}
    for name in names:
        check_name(name, document.at(SECTION, name))
        if name.lower() in seen:
            raise SpecError(
                f"dataset {name!r} beside {seen[name.lower()]!r}", where=document.at(SECTION, name),
                expected="names that differ in more than small and capital letters", fix="rename it",
            )  # fmt: skip
        seen[name.lower()] = name
    return names


def chosen_document(document: Document, overrides: Sequence[str], dataset: str | None) -> Document:
    """Return the document of one dataset, or of a file that has no ``datasets:``, as the command line changed it.

    Overrides of ``datasets.NAME...`` change that dataset's entry; the others hold for every dataset and win over
    its entry.

    Raises
    ------
    SpecError
        There is no such dataset, none is chosen where there are several, or an override or entry is wrong.
    """
    document = with_dataset_overrides(document, overrides)
    names = dataset_names(document)
    if dataset is not None:
        check_chosen(document, names, dataset)
        document = _dataset_document(document, dataset)
    elif names:
        raise SpecError(
            f"the file has {len(names)} datasets", where=document.at(SECTION), expected=f"one of {', '.join(names)}",
            fix=f"--dataset {names[0]}",
        )  # fmt: skip
    return document.with_overrides([text for text in overrides if not _is_of_a_dataset(text)])


def with_dataset_overrides(document: Document, overrides: Sequence[str]) -> Document:
    """Return the document with the overrides of ``datasets.NAME...`` only.

    Raises
    ------
    SpecError
        One of them names a dataset that the file does not have.
    """
    known = document.tree.get(SECTION)
    inner = [text for text in overrides if _is_of_a_dataset(text)]
    for text in inner:
        name = text.partition("=")[0].split(".")[1]
        if not isinstance(known, dict) or name not in known:
            raise unknown(f"--set {text!r} names no dataset", name, known if isinstance(known, dict) else ())
    return document.with_overrides(inner)


def check_chosen(document: Document, names: Sequence[str], dataset: str) -> None:
    """Raise a SpecError unless the file has this dataset."""
    if not names:
        raise SpecError(
            f"--dataset {dataset}", where=str(document.file), expected="a file with datasets:", fix="leave it out"
        )
    if dataset not in names:
        raise unknown(f"no dataset {dataset!r}", dataset, names, document.at(SECTION))


def _is_of_a_dataset(override: str) -> bool:
    return override.partition("=")[0].split(".")[0] == SECTION and "." in override.partition("=")[0]


def _entries(document: Document) -> _Datasets:
    try:
        return _Datasets.model_validate(document.tree)
    except pydantic.ValidationError as error:
        raise spec_error(error, document, WorkflowFile) from None


def _dataset_document(document: Document, name: str) -> Document:
    entries = _entries(document)
    entry, written = entries.datasets[name], document.tree[SECTION][name]
    tree = {key: value for key, value in document.tree.items() if key != SECTION}
    tree["name"] = f"{entries.name or document.file.stem}-{name}"
    made = replace(document, tree=tree, part=f"dataset {name}")
    for key in LAID_OVER:
        if written.get(key) is not None:
            made = made.with_moved((SECTION, name, key), (key,), _laid_over(made.tree.get(key), written[key]))
    for path, value in entry.set.items():
        keys = tuple(path.split("."))
        if len(keys) < 2 or keys[0] not in MAY_SET or not all(keys):
            raise SpecError(
                f"set: {path!r}", where=document.at(SECTION, name, "set", path),
                expected="a path in steps or data, such as steps.network.params.model",
                fix=f"a value for every dataset: --set {path}=VALUE without set; other keys stand in the entry itself",
            )  # fmt: skip
        made = made.with_moved((SECTION, name, "set", path), keys, value)
    return _without(made, document, name, entry.without)


def _without(made: Document, document: Document, name: str, left_out: Sequence[str]) -> Document:
    steps = made.tree.get("steps")
    if not isinstance(steps, dict):
        return made
    for step in left_out:
        if step not in steps:
            where = document.at(SECTION, name, "without")
            raise unknown(f"without: no step {step!r}", step, steps, where)
    kept = {step: entry for step, entry in steps.items() if step not in left_out}
    return replace(made, tree={**made.tree, "steps": kept})


def _laid_over(below: Any, above: Any) -> Any:
    """Return ``above`` laid over ``below``: mappings key by key, anything else replaces what was there."""
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    return {**below, **{key: _laid_over(below.get(key), value) for key, value in above.items()}}
