"""Draws architecture.svg: the packages of `curate`, the rooms of its engine, and who imports whom.

    python docs/pictures/architecture.py

The arrows are read from the source with grimp, without imports for type checkers; the rows are the layers of the
contracts in pyproject.toml. An arrow that follows from others (a → c, where a → b → c) is left out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import grimp

ROOT = Path(__file__).parents[2]
PICTURE = Path(__file__).with_suffix(".svg")

BOX_HEIGHT, ROW, GAP, CHARACTER, PADDING, LANE = 26.0, 56.0, 14.0, 7.4, 20.0, 10.0
"""Sizes in pixels: a box, from one row to the next, between boxes, a letter, around a name, a line that passes by."""

MARGIN, HEADING, PANELS = 20.0, 30.0, 34.0
INK, LINE, FILL, EDGE, PAPER = "#1d2522", "#5b6864", "#e4f1ec", "#1b7f5c", "#ffffff"

Graph = dict[str, set[str]]


@attrs.define(eq=False)
class Node:
    """A box, or the place where a long arrow passes through a row.

    Args:
        name: the package; empty: an arrow passes here.
        x: the centre.
    """

    name: str
    x: float = 0.0

    @property
    def width(self) -> float:
        return len(self.name) * CHARACTER + PADDING if self.name else LANE


def layers(package: str) -> list[list[str]]:
    """Return the rows of the layers contract whose container is the package, from the top."""
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for contract in settings["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "layers" and contract.get("containers") == [package]:
            return [[name.strip(" ()") for name in row.replace(":", "|").split("|")] for row in contract["layers"]]
    raise LookupError(f"pyproject.toml has no layers contract with the container {package}")


def imports(package: str) -> Graph:
    """Return which direct children of a package import which others, anywhere below them."""
    graph = grimp.build_graph("curate", exclude_type_checking_imports=True, cache_dir=None)
    found: Graph = {child.removeprefix(f"{package}."): set() for child in graph.find_children(package)}
    for module in graph.find_descendants(package):
        importer = module.removeprefix(f"{package}.").split(".")[0]
        for imported in graph.find_modules_directly_imported_by(module):
            if imported.startswith(f"{package}."):
                found[importer].add(imported.removeprefix(f"{package}.").split(".")[0])
    return {importer: imported - {importer} for importer, imported in found.items()}


def reduced(graph: Mapping[str, set[str]]) -> Graph:
    """Return the graph without the arrows that follow from others."""
    return {
        importer: {
            name for name in imported if not any(_reaches(graph, other, name) for other in imported if other != name)
        }
        for importer, imported in graph.items()
    }


def _reaches(graph: Mapping[str, set[str]], start: str, end: str) -> bool:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name == end:
            return True
        if name not in seen:
            seen.add(name)
            waiting += graph.get(name, set())
    return False


def picture() -> str:
    """Return the SVG."""
    packages = _Panel.of("curate", "curate: packages")
    rooms = _Panel.of("curate.engine", "curate.engine: modules and rooms")
    width = MARGIN * 2 + max(packages.width, rooms.width)
    below = MARGIN + packages.height + PANELS
    height = below + rooms.height + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
            'font-family="ui-monospace, monospace" font-size="12" role="img">',
            "<title>The packages of curate and the rooms of its engine; arrows point to what is imported</title>",
            f'<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0 8 4 0 8z" fill="{LINE}"/></marker></defs>',
            f'<rect width="100%" height="100%" fill="{PAPER}"/>',
            *packages.elements((width - packages.width) / 2, MARGIN),
            *rooms.elements((width - rooms.width) / 2, below),
            "</svg>\n",
        ]
    )


@attrs.frozen
class _Panel:
    """A graph in rows: every arrow leads from one row to the next, through a node without a name where it is longer."""

    title: str
    rows: Sequence[Sequence[Node]]
    arrows: Sequence[tuple[Sequence[Node], int]]
    """The nodes that an arrow passes, and the row in which it begins."""

    @classmethod
    def of(cls, package: str, title: str) -> _Panel:
        graph = reduced(imports(package))
        rows = [[Node(name) for name in row if name in graph] for row in layers(package)]
        rows = [row for row in rows if row]
        place = {node.name: (number, node) for number, row in enumerate(rows) for node in row}
        arrows: list[tuple[list[Node], int]] = []
        for importer in sorted(graph.keys() & place.keys()):
            for imported in sorted(graph[importer] & place.keys()):
                (first, start), (last, end) = place[importer], place[imported]
                passed = [Node("") for _ in range(first + 1, last)]
                for number, node in enumerate(passed, first + 1):
                    rows[number].append(node)
                arrows.append(([start, *passed, end], first))
        _arrange(rows, arrows)
        return cls(title, rows, arrows)

    @property
    def width(self) -> float:
        return max(node.x + node.width / 2 for row in self.rows for node in row)

    @property
    def height(self) -> float:
        return HEADING + (len(self.rows) - 1) * ROW + BOX_HEIGHT

    def elements(self, left: float, top: float) -> Iterator[str]:
        yield (
            f'<text x="{left:.1f}" y="{top + 12:.1f}" font-size="15" font-weight="600" '
            f'font-family="system-ui, sans-serif" fill="{INK}">{self.title}</text>'
        )
        first = top + HEADING
        for nodes, row in self.arrows:
            yield _curve([(left + node.x, first + number * ROW) for number, node in enumerate(nodes, row)])
        for number, row in enumerate(self.rows):
            for node in row:
                if node.name:
                    yield from _box(node, left, first + number * ROW)


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """Return a line from below the first box to above the last."""
    (x, y), *rest = points
    path = f"M{x:.1f} {y + BOX_HEIGHT:.1f}"
    y += BOX_HEIGHT
    for number, (next_x, next_y) in enumerate(rest):
        bend = (next_y - y) / 2
        path += f"C{x:.1f} {y + bend:.1f} {next_x:.1f} {next_y - bend:.1f} {next_x:.1f} {next_y:.1f}"
        x, y = next_x, next_y
        if number < len(rest) - 1:
            y += BOX_HEIGHT
            path += f"V{y:.1f}"
    return f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1.1" marker-end="url(#head)"/>'


def _box(node: Node, left: float, top: float) -> Iterator[str]:
    x = left + node.x - node.width / 2
    yield (
        f'<rect x="{x:.1f}" y="{top:.1f}" width="{node.width:.1f}" height="{BOX_HEIGHT:g}" rx="4" '
        f'fill="{FILL}" stroke="{EDGE}"/>'
    )
    yield f'<text x="{left + node.x:.1f}" y="{top + 17:.1f}" text-anchor="middle" fill="{INK}">{node.name}</text>'


def _arrange(rows: Sequence[list[Node]], arrows: Sequence[tuple[Sequence[Node], int]]) -> None:
    """Order each row so that few lines cross, and put each node near those that it is joined to."""
    above: dict[int, list[Node]] = {}
    below: dict[int, list[Node]] = {}
    for nodes, _ in arrows:
        for upper, lower in pairwise(nodes):
            above.setdefault(id(lower), []).append(upper)
            below.setdefault(id(upper), []).append(lower)
    for row in rows:
        _pack(row, [float(number) for number in range(len(row))])
    for sweep in range(24):
        neighbours = below if sweep % 2 else above
        for row in reversed(rows) if sweep % 2 else rows:
            wanted = [_mean(neighbours.get(id(node), []), node.x) for node in row]
            order = sorted(range(len(row)), key=lambda number: (wanted[number], number))
            row[:] = [row[number] for number in order]
            _pack(row, [wanted[number] for number in order])
    left = min(node.x - node.width / 2 for row in rows for node in row)
    for row in rows:
        for node in row:
            node.x -= left


def _mean(nodes: Sequence[Node], otherwise: float) -> float:
    return sum(node.x for node in nodes) / len(nodes) if nodes else otherwise


def _pack(row: Sequence[Node], wanted: Sequence[float]) -> None:
    """Place the nodes of a row from left to right without overlaps, their mean where they would have it."""
    right = float("-inf")
    for node, x in zip(row, wanted, strict=True):
        node.x = max(x, right + GAP + node.width / 2)
        right = node.x + node.width / 2
    shift = (sum(wanted) - sum(node.x for node in row)) / max(1, len(row))
    for node in row:
        node.x += shift


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
