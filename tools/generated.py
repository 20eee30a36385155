"""Files that are written by a tool and committed: writing them, and finding out whether they are still true."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEMPLATES = Path(__file__).parent / "templates"


def write_or_check(files: dict[Path, str], directories: list[Path], again: str) -> None:
    """Make the directories hold exactly these files; with `--check`, exit with what differs instead."""
    strangers = [path for directory in directories for path in directory.glob("*") if path not in files]
    if "--check" in sys.argv[1:]:
        differing = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
        if differing or strangers:
            names = ", ".join(str(path.relative_to(ROOT)) for path in [*differing, *strangers])
            sys.exit(f"not what {again} writes: {names}")
        return
    for path in strangers:
        path.unlink()
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
