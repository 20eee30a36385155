"""Compiles the reader of plain log lines when callmeter is built or installed: hatchling runs this.

Without a C compiler callmeter is built without it, and reads logs in SQL, with the same results but more slowly.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("src/callmeter/store/native/lines.c")
FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-Wall", "-Wextra", "-fstack-protector-strong")


class CompiledReader(BuildHookInterface[Any]):
    """The build's step before files are collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Put the library beside its source, and into the wheel."""
        library = SOURCE.with_suffix(".so")
        fresh = library.with_suffix(".so.new")  # for nobody to read it half written
        command = [*shlex.split(os.environ.get("CC", "cc")), *FLAGS, "-o", str(fresh), str(SOURCE), "-lm"]
        try:
            subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            (Path(self.root) / library).unlink(missing_ok=True)
            reason = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
            self.app.display_warning(f"callmeter is built without its compiled reader of logs: {reason.strip()}")
            return
        (Path(self.root) / fresh).replace(Path(self.root) / library)
        build_data["artifacts"].append(f"/{library}")
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")
