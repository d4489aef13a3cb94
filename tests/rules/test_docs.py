"""What README and the pages on running tell people to type exists: verbs, options, and the pages they link to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from bouton.cli.main import VERBS, make_app

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/clusters.md", "docs/operating.md", "docs/storage.md", "docs/density-check.md"]
COMMAND = re.compile(r"bouton (" + "|".join(VERBS) + r")\b([^\n`|#(]*)")
LINK = re.compile(r"\]\(([^)#\s:]*)(?:#([\w-]+))?\)")


def unknown_options(text: str) -> list[str]:
    """Return the commands in a text with an option that their verb does not have."""
    found = []
    for verb, rest in COMMAND.findall(text):
        command = get_command(make_app([verb])).commands[verb]  # type: ignore[attr-defined]
        groups = getattr(command, "commands", {}).values()
        known = {option for each in (command, *groups) for parameter in each.params for option in parameter.opts}
        found += [f"bouton {verb} {word}" for word in re.findall(r"(?<![\w-])--[a-z-]+", rest) if word not in known]
    return found


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    assert COMMAND.search(text)
    assert not unknown_options(text)


def test_the_rule_can_fail() -> None:
    assert unknown_options("`bouton run x.yaml --workers 2 --clutser slurm`") == ["bouton run --clutser"]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target, heading in LINK.findall((ROOT / page).read_text()):
        file = (ROOT / page).parent / target if target else ROOT / page
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
