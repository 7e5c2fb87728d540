"""The dataset card of a published set: its hours, licenses, languages, and how it was made; no section is empty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from curate.stages.write.tallies import OTHERS

_HUB_LICENSES = {
    "cc0": "cc0-1.0",
    "cc0-1.0": "cc0-1.0",
    "cc-by-3.0": "cc-by-3.0",
    "cc-by-4.0": "cc-by-4.0",
    "cc-by-sa-3.0": "cc-by-sa-3.0",
    "cc-by-sa-4.0": "cc-by-sa-4.0",
    "cc-by-nc-4.0": "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0": "cc-by-nc-sa-4.0",
    "cc-by-nc-nd-4.0": "cc-by-nc-nd-4.0",
    "apache-2.0": "apache-2.0",
    "mit": "mit",
}
"""A license in lower case → what the Hub calls it; every other one is `other`."""

_COLUMNS = (("lang", "Languages"), ("license", "Licenses"), ("source", "Sources"))


def readme_of(
    title: str,
    description: str,
    provenance: Mapping[str, Any],
    configs: Mapping[str, Sequence[Mapping[str, str]]],
    *,
    writer: str,
) -> str:
    """Return the dataset card as Markdown with its YAML.

    Args:
        title: the heading.
        description: the first paragraph; empty: none.
        provenance: of the published set.
        configs: the name of a configuration → its splits, each with the pattern of its files.
        writer: the name of the stage that publishes; its own parts are not named.
    """
    import yaml

    meta = yaml.safe_dump(_metadata(title, provenance, configs), sort_keys=False, allow_unicode=True)
    sections = [f"# {title}", description.strip()] if description.strip() else [f"# {title}"]
    sections += [_overview(provenance), *_hours(provenance), *_made(provenance, writer)]
    return f"---\n{meta}---\n\n" + "\n\n".join(sections) + "\n"


def _metadata(
    title: str, provenance: Mapping[str, Any], configs: Mapping[str, Sequence[Mapping[str, str]]]
) -> dict[str, Any]:
    hours = provenance["hours_by"]
    found: dict[str, Any] = {"pretty_name": title}
    languages = [lang for lang in hours.get("lang", {}) if lang != OTHERS]
    if languages:
        found["language"] = sorted({lang.partition("-")[0].lower() for lang in languages})
    licenses = sorted({_HUB_LICENSES.get(each.lower(), "other") for each in hours.get("license", {})})
    if licenses:
        found["license"] = licenses[0] if len(licenses) == 1 else licenses
    found["task_categories"] = ["automatic-speech-recognition"]
    found["configs"] = [{"config_name": name, "data_files": list(files)} for name, files in configs.items()]
    return found


def _overview(provenance: Mapping[str, Any]) -> str:
    rows = [
        (name or "train", f"{each['records']:,}", f"{each['hours']:,.3f}")
        for name, each in provenance["folders"].items()
    ]
    total = ("all", f"{provenance['records']:,}", f"{provenance['hours']:,.3f}")
    return "## Size\n\n" + _table(("split", "records", "hours"), [*rows, total] if len(rows) > 1 else rows or [total])


def _hours(provenance: Mapping[str, Any]) -> Iterator[str]:
    """Yield a section for each column whose values are known."""
    for column, heading in _COLUMNS:
        values = provenance["hours_by"].get(column)
        if values:
            rows = [(value, f"{hours:,.3f}") for value, hours in values.items()]
            yield f"## {heading}\n\n" + _table((column, "hours"), rows)


def _made(provenance: Mapping[str, Any], writer: str) -> Iterator[str]:
    """Yield how the set was made: its stages, and what they left out."""
    stages: Mapping[str, Any] = provenance.get("stages") or {}
    lines = [f"- `{name}`{_settings(stage)}" for name, stage in stages.items() if name.partition(".")[0] != writer]
    version = f" with curate {provenance['curate']}" if provenance.get("curate") else ""
    if lines:
        yield f"## How it was made\n\nBy these stages{version}:\n\n" + "\n".join(lines)
    left_out = [
        (stage, reason, f"{counts['records']:,}", f"{counts['audio_hours']:,.3f}")
        for kind in ("filtered", "quarantined")
        for stage, reasons in provenance.get("outcomes", {}).get(kind, {}).items()
        for reason, counts in reasons.items()
    ]
    if left_out:
        yield "## What was left out\n\n" + _table(("stage", "reason", "records", "hours"), left_out)


def _settings(stage: Mapping[str, Any]) -> str:
    """Return a stage's settings for the readme; folders of this machine are not part of them."""
    shown = [
        f"`{name}: {_without_folder(value)}`"
        for name, value in stage.items()
        if name not in ("class", "code") and isinstance(value, str | int | float) and value not in ("", False)
    ]
    return f" ({', '.join(shown)})" if shown else ""


def _without_folder(value: object) -> object:
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    cells = ((str(cell).replace("|", "\\|").replace("\n", " ") for cell in line) for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
