"""The page: the sections of a report, put into the template with everything that it needs to open offline."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate._version import __version__
from curate.audio.files import roots_in_run
from curate.durations import duration_text
from curate.engine import RunReader
from curate.plugin import PluginHost, current_host
from curate.report import environment, figures
from curate.report.clips import BUDGET_BYTES, Clip, ClipMaker
from curate.report.columns import columns_of
from curate.report.figures import audio, count, number, rate, share
from curate.report.flow import balance, reasons, stage_flows
from curate.report.panels import Chart, OwnPanel
from curate.report.samples import Sample
from curate.report.sanitize import printable
from curate.report.scan import Survey
from curate.report.sections import Findings, sections
from curate.report.short_ids import short_ids
from curate.report.speed import speed_of
from curate.report.state import status_sentence
from curate.storage import write_atomically

if TYPE_CHECKING:
    from jinja2 import Environment

REPORT_FILE = "report.html"

_FILTERS: Mapping[str, Callable[..., str]] = {
    "audio": audio,
    "count": count,
    "number": number,
    "rate": rate,
    "seconds": duration_text,
    "share": share,
    "text": printable,
}


def write_report(
    run_dir: str | Path,
    path: str | Path | None = None,
    *,
    budget_bytes: int = BUDGET_BYTES,
    host: PluginHost | None = None,
) -> Path:
    """Write the report of a run, whatever its status is.

    Args:
        run_dir: the run directory; only its files are read, and the audio that its records name, below the run's roots.
        path: where the report goes; `report.html` in the run directory by default.
        budget_bytes: the most audio that it may hold.
        host: the plugins, for their panels, the meanings of their error codes and their normalisers.

    Raises:
        RunDirectoryError: there is no run, or one of another version.
        InfrastructureError: the report cannot be written.
    """
    directory = Path(run_dir)
    target = directory / REPORT_FILE if path is None else Path(path)
    write_atomically(target, render(directory, budget_bytes=budget_bytes, host=host).encode())
    return target


def render(run_dir: Path, *, budget_bytes: int = BUDGET_BYTES, host: PluginHost | None = None) -> str:
    """Return the report of a run as HTML."""
    run, problems = RunReader(run_dir), list[str]()
    if (run_dir / "summary.json").exists() and run.summary is None:  # in this order: a run at work may just write it
        problems.append(f"{run_dir.name}/summary.json cannot be read")
    survey = Survey.of(run, columns_of(run.settings), problems)
    terms, speed = balance(run), speed_of(run.events())
    roots, missing = _roots(run)
    with ClipMaker(roots, budget_bytes) as clips:

        def clip(sample: Sample) -> Clip:
            if missing:
                return Clip(None, missing)
            return clips.clip(sample.path, sample.offset_s, sample.duration_s)

        shown = sections(
            Findings(
                run,
                survey,
                terms,
                stage_flows(run),
                reasons(run),
                speed,
                host or current_host(),
                clip,
                problems,
            )
        )
    compared = survey.columns.comparison
    page: dict[str, Any] = {
        "name": printable(run.name, 200),
        "title": "the report of a run",
        "curate": __version__,
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "state": {"name": run.status.value, "sentence": status_sentence(run)},
        "facts": environment.facts(run, speed),
        "figures": figures.headlines(run, terms, survey, speed),
        "sections": shown,
        "short_ids": short_ids(survey.ids(), (str(one.get("path")) for one in run.description.get("inputs", ()))),
        "next": environment.next_commands(run),
        "rate_column": "" if compared is None else printable(compared.column, 60),
        "problems": [printable(problem) for problem in problems[:20]],
    }
    return fill_page(page)


def _roots(run: RunReader) -> tuple[Sequence[str] | None, str]:
    """Return where audio may be read from (None: anywhere), or why it may not be read at all."""
    if "audio_roots" not in run.description:
        return (), "run.json does not say where audio may be read from"
    return roots_in_run(run.description["audio_roots"], run.run_dir), ""


def fill_page(page: dict[str, Any]) -> str:
    """Return a page as HTML that opens offline.

    Args:
        page: `name`, `title`, `curate` (version), `written`, `state` (None: no run), `facts`, `figures`, `sections`,
            `short_ids` (id → its short form), `next` (commands, and what they do), `rate_column` and `problems`, as the
            template shows them.
    """
    from markupsafe import Markup

    charts: list[Mapping[str, Any]] = []

    def number_of(chart: Chart) -> int:
        """Add a chart to the page's data and return its number, by which the page's script finds it."""
        charts.append(chart.described())
        return len(charts) - 1

    scripts = [_asset("echarts.common.min.js"), _asset("report.js")]
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    page["policy"] = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    # our own files, and JSON in which no `<` is left
    page["scripts"] = [Markup(script) for script in scripts]
    page["style"] = Markup(_asset("report.css"))
    environment = _environment(number_of)
    body = environment.get_template("sections.html.j2").render(page=page)
    page["data"] = Markup(_embedded({"charts": charts}))
    return environment.get_template("report.html.j2").render(page=page, body=Markup(body))


def _environment(number_of: Callable[[Chart], int]) -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(_asset))
    environment.filters.update(_FILTERS)
    ours: dict[str, dict[str, Any]] = {"filters": {"chart": number_of}, "tests": {"own": _is_own}}
    environment.filters.update(ours["filters"])
    environment.tests.update(ours["tests"])
    return environment


def _is_own(panel: object) -> bool:
    return isinstance(panel, OwnPanel)


def _asset(name: str) -> str:
    return (resources.files("curate.report") / "assets" / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _embedded(value: Any) -> str:
    """Return JSON that can stand inside of a script element, whatever texts are in it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
