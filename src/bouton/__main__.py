"""``python -m bouton``."""

from __future__ import annotations

from bouton.cli.main import main

main()
