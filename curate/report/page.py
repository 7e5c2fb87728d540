"""The page: what was found out about a run, put into the template with everything that it needs to open offline."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate import __version__
from curate.io.atomic import write_atomically
from curate.report import environment, figures
from curate.report.alignment import align
from curate.report.clips import BUDGET_BYTES, Clip, ClipMaker
from curate.report.columns import columns_of
from curate.report.figures import audio, count, number, rate, seconds, share
from curate.report.flow import balance, reasons, stage_flows
from curate.report.run_files import RunFiles
from curate.report.samples import Sample
from curate.report.sanitize import printable
from curate.report.scan import FATES, Survey
from curate.report.speed import speed_of

if TYPE_CHECKING:
    from jinja2 import Environment

REPORT_FILE = "report.html"

_WORST = 12
_SAMPLES = {"kept": 10, "filtered": 18, "quarantined": 18}

_FILTERS: Mapping[str, Callable[..., str]] = {
    "audio": audio,
    "count": count,
    "number": number,
    "place": figures.place,
    "rate": rate,
    "seconds": seconds,
    "share": share,
    "text": printable,
}


def write_report(run_dir: str | Path, path: str | Path | None = None, *, budget_bytes: int = BUDGET_BYTES) -> Path:
    """Write the report of a run, which may be done, stopped, killed or still going.

    Args:
        run_dir: the run directory; only its files are read, and the audio that its records name, below the run's roots.
        path: where the report goes; `report.html` in the run directory by default.
        budget_bytes: how much audio there may be in it.

    Raises:
        RunDirectoryError: there is no run, or one of another version.
        InfrastructureError: the report cannot be written.
    """
    directory = Path(run_dir)
    target = directory / REPORT_FILE if path is None else Path(path)
    write_atomically(target, render(directory, budget_bytes=budget_bytes).encode())
    return target


def render(run_dir: Path, *, budget_bytes: int = BUDGET_BYTES) -> str:
    """Return the report of a run as text."""
    files = RunFiles.open(run_dir)
    charts: list[dict[str, Any]] = []

    def chart(described: dict[str, Any] | None) -> int | None:
        """Add a chart and return its number, or None where there is nothing to draw."""
        if described is None:
            return None
        charts.append(described)
        return len(charts) - 1

    columns = columns_of(files.settings)
    survey = Survey.of(files, columns)
    terms, flows, left = balance(files), stage_flows(files), reasons(files)
    speed = speed_of(files.events)
    page: dict[str, Any] = {
        "name": printable(files.run.get("name", ""), 200),
        "curate": __version__,
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "state": files.state,
        "facts": environment.facts(files, speed),
        "balance": terms,
        "shares": figures.shares(terms),
        "figures": figures.headlines(files, terms, survey, speed),
        "funnel": chart(figures.funnel(flows)),
        "reasons": figures.reason_rows(left, terms),
        "histograms": [
            {**one, "chart": chart(drawn)} for one, drawn in figures.histograms(survey) if drawn is not None
        ],
        "throughput": chart(figures.throughput(speed)),
        "stages": chart(figures.stages(flows, speed)),
        "performance": [{**one, "shapes": chart(drawn)} for one, drawn in figures.performance(files)],
        "failures": environment.failures(left, survey),
        "settings": environment.stage_settings(files),
        "boxes": environment.boxes(files),
        "rate_name": figures.rate_name(survey),
        "rate_column": "" if columns.comparison is None else printable(columns.comparison.column, 60),
    }
    roots, missing = _roots(files)
    with ClipMaker(roots, budget_bytes) as clips:

        def clip(sample: Sample) -> Clip:
            if missing:
                return Clip(None, missing)
            return clips.clip(sample.path, sample.offset_s, sample.duration_s)

        compared = columns.comparison
        worst = [] if compared is None else survey.worst.samples()[:_WORST]
        page["worst"] = [
            {"sample": sample, "clip": clip(sample), "alignment": align(sample, compared)}
            for sample in worst
            if compared is not None
        ]
        page["samples"] = [
            {
                "fate": fate,
                "count": next(term.records for term in terms if term.kind == fate),
                "shown": [{"sample": one, "clip": clip(one)} for one in survey.samples[fate].taken(_SAMPLES[fate])],
                "first": False,
            }
            for fate in FATES
        ]
    for group in page["samples"]:
        if group["shown"]:
            group["first"] = True
            break
    page["problems"] = [printable(problem) for problem in files.problems[:20]]
    return _filled(page, charts)


def _roots(files: RunFiles) -> tuple[Sequence[str] | None, str]:
    """Return where audio may be read from (None: anywhere), or why it may not be read at all."""
    if "audio_roots" not in files.run:
        return (), "run.json does not say where audio may be read from"
    return files.run["audio_roots"], ""


def _filled(page: dict[str, Any], charts: Sequence[Mapping[str, Any]]) -> str:
    from markupsafe import Markup

    scripts = [_asset("echarts.common.min.js"), _asset("report.js")]
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    page["policy"] = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    # our own files, and JSON in which no `<` is left
    page["scripts"] = [Markup(script) for script in scripts]
    page["style"] = Markup(_asset("report.css"))
    page["data"] = Markup(_embedded({"charts": charts}))
    return _environment().get_template("report.html.j2").render(page=page)


def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(_asset))
    environment.filters.update(_FILTERS)
    return environment


def _asset(name: str) -> str:
    return (resources.files("curate.report") / "assets" / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _embedded(value: Any) -> str:
    """Return JSON that can stand inside of a script element, whatever texts are in it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
