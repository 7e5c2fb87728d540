"""Installed distributions that do not exist: real `dist-info` folders in a temporary folder on the path."""

from __future__ import annotations

import textwrap
from pathlib import Path

STAGE_PLUGIN = """
from curate.plugin import StageRef, hookimpl

@hookimpl
def curate_stages():
    return [StageRef({name!r}, "{module}:Stage", "Says who it is")]
"""


class Site:
    """A folder that Python takes for site-packages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def install(
        self, distribution: str, code: str, *, entry: str = "main", module: str | None = None, version: str = "1.0"
    ) -> str:
        """Install a distribution whose plugin is a module with this code, and return the module's name."""
        module = module or distribution.replace("-", "_") + "_plugin"
        (self.path / f"{module}.py").write_text(textwrap.dedent(code))
        self.describe(distribution, f"[curate]\n{entry} = {module}\n", version=version)
        return module

    def install_stage(self, distribution: str, name: str, *, entry: str = "main") -> str:
        """Install a distribution that announces one stage which maps records."""
        thing = distribution.replace("-", "_") + "_stage"
        (self.path / f"{thing}.py").write_text(
            f"from curate.stage import ProcessingStage\nclass Stage(ProcessingStage):\n    owner = {distribution!r}\n"
        )
        return self.install(distribution, STAGE_PLUGIN.format(name=name, module=thing), entry=entry)

    def describe(self, distribution: str, entry_points: str, *, version: str = "1.0") -> None:
        """Write the metadata alone."""
        folder = self.path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (folder / "entry_points.txt").write_text(entry_points)
