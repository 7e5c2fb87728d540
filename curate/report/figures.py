"""Numbers as they are shown: headlines, tables, and the data of the charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curate.durations import duration_text
from curate.engine import RunReader
from curate.report.columns import DURATION, SPEAKING_RATE
from curate.report.flow import SOURCES, BalanceTerm, ExitReason, StageFlow
from curate.report.histogram import Bars, Histogram
from curate.report.measures import MEASURES
from curate.report.sanitize import printable
from curate.report.scan import FATES, Survey
from curate.report.speed import Point, Speed

_UNITS: Mapping[str, str] = {DURATION: "seconds", SPEAKING_RATE: "words per second"}
_TITLES: Mapping[str, str] = {DURATION: "Duration", SPEAKING_RATE: "Speaking rate"}

_SHOWN_REASONS = 60

_LONG = 0.05
"""A phase that took less than this share of the time of work is left out of the curve."""


# How a single number is written.


def count(value: float) -> str:
    return f"{value:,.0f}"


def audio(ms: float) -> str:
    """Return an amount of audio, given in milliseconds."""
    return duration_text(ms / 1000)


def number(value: float | None) -> str:
    """Return a number with about four digits; a dash where there is none."""
    if value is None:
        return "–"
    if value == 0 or 0.001 <= abs(value) < 10_000:
        text = f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"
        return text if "e" not in text else f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.2e}"


def rate(value: float) -> str:
    return f"{value:.1%}" if value < 100 else f"{value:,.0%}"


def share(value: float) -> str:
    return f"{value:.1%}" if value >= 0.001 or value == 0 else "< 0.1%"


# The parts of the page.


def rate_name(survey: Survey) -> str:
    compared = survey.columns.comparison
    return "" if compared is None else "word error rates" if compared.unit == "word" else "character error rates"


def shares(terms: Sequence[BalanceTerm]) -> list[dict[str, Any]]:
    """Return the outcomes of the records, and of their audio, as parts of a whole."""
    out = [term for term in terms if term.kind not in SOURCES]
    rows: list[dict[str, Any]] = []
    for what, amounts in (("records", [term.records for term in out]), ("audio", [term.ms for term in out])):
        whole = sum(amounts)
        if whole > 0:
            parts = [{"kind": t.kind, "share": f"{a / whole:.6f}"} for t, a in zip(out, amounts, strict=True) if a > 0]
            label = ", ".join(f"{t.what} {a / whole:.1%}" for t, a in zip(out, amounts, strict=True) if a > 0)
            rows.append({"what": what, "parts": parts, "label": label})
    return rows


def headlines(run: RunReader, terms: Sequence[BalanceTerm], survey: Survey, speed: Speed) -> list[dict[str, str]]:
    """Return the few numbers that one looks at first."""
    by_kind = {term.kind: term for term in terms}
    came, kept = by_kind["in"], by_kind["kept"]
    whole = sum(term.records for term in terms if term.kind not in SOURCES)
    found = [
        _figure("", "Records in", count(came.records), f"{audio(came.ms)} of audio"),
        _figure("kept", "Kept", count(kept.records), share(kept.records / whole) if whole else ""),
        _figure("kept", "Audio kept", audio(kept.ms), f"{share(kept.ms / came.ms)} of what came in" if came.ms else ""),
    ]
    compared = survey.columns.comparison
    if compared is not None:
        of_all = _joined(survey.histograms[compared.column].values())
        if of_all.count:
            weighted = f"{survey.errors / survey.words:.1%} over all words" if survey.words else ""
            name = "Median WER" if compared.unit == "word" else "Median CER"
            found.append(_figure("", name, rate(of_all.quantile(0.5) or 0.0), weighted))
    summary = run.summary or {}
    times = speed.rtfx or summary.get("rtfx")
    if times:
        more = "audio per time of work, without loading" if speed.loads else "audio per time of work"
        found.append(_figure("", "Times real time", number(round(times, 2)), more))
    worked_s = speed.worked_s or summary.get("wall_s")
    if worked_s:
        attempts = len(run.attempts())
        parts = [f"{duration_text(speed.loading_s)} of it loading models"] if speed.loads else []
        parts += [f"in {attempts} attempts"] if attempts > 1 else []
        found.append(_figure("", "Time of work", duration_text(worked_s), ", ".join(parts)))
    return found


def _figure(kind: str, what: str, value: str, more: str) -> dict[str, str]:
    return {"kind": kind, "what": what, "value": value, "more": more}


def reason_rows(left: Sequence[ExitReason], terms: Sequence[BalanceTerm]) -> list[dict[str, Any]]:
    """Return why records were left out, as rows of a table."""
    came = max(sum(term.records for term in terms if term.kind in SOURCES), 1)
    return [
        {
            "stage": printable(one.stage, 80),
            "fate": one.fate,
            "because": printable(one.because, 300),
            "records": one.records,
            "share": one.records / came,
            "ms": one.ms,
        }
        for one in left[:_SHOWN_REASONS]
    ]


def funnel(flows: Sequence[StageFlow]) -> dict[str, Any]:
    """Return the chart of what became of the records from stage to stage."""
    return {
        "kind": "funnel",
        "stages": [
            {
                "name": printable(flow.name, 60),
                "out": flow.remained,
                "filtered": flow.filtered,
                "quarantined": flow.quarantined,
                "split": flow.split,
            }
            for flow in flows
        ],
    }


def histograms(survey: Survey) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Yield, for each column, what is written about it, and its chart; None if no record has a number there."""
    for column, by_fate in survey.histograms.items():
        yield _histogram(column, by_fate, survey)


def measures(survey: Survey) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Yield the same for each measure of audio."""
    for column, measure in survey.measures.found().items():
        yield _histogram(column, measure.by_fate, survey)


def scatter(survey: Survey) -> dict[str, Any] | None:
    """Return the chart of two measures of each record; None where no two measures vary."""
    found = survey.measures.scatter()
    if found is None:
        return None
    first, second, points = found
    thresholds = [
        {"axis": axis, "operator": one.operator, "value": one.value}
        for axis, column in (("x", first), ("y", second))
        for one in survey.columns.thresholds
        if one.column == column
    ]
    return {
        "kind": "scatter",
        "x": {"name": column_name(first), "unit": MEASURES[first][1]},
        "y": {"name": column_name(second), "unit": MEASURES[second][1]},
        "thresholds": thresholds,
        **points,
    }


def column_name(column: str) -> str:
    """Return the title of a measure."""
    return MEASURES[column][0]


def _histogram(
    column: str, by_fate: Mapping[Any, Histogram], survey: Survey
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    before = _joined(by_fate.values())
    thresholds = [one for one in survey.columns.thresholds if one.column == column]
    bars = Bars.over(before, [one.value for one in thresholds])
    rows = [_statistics("Before", before), _statistics("After", by_fate["kept"])]
    written = {"title": _title(column, survey), "rows": rows, "thresholds": thresholds}
    if bars is None:
        return written, None
    return (
        written,
        {
            "kind": "histogram",
            "unit": MEASURES[column][1] if column in MEASURES else _UNITS.get(column, ""),
            "start": bars.start,
            "width": bars.width,
            "bars": bars.bars,
            "beyond": bars.beyond,
            "thresholds": [{"operator": one.operator, "value": one.value} for one in thresholds],
            **{fate: bars.place(by_fate[fate]) for fate in FATES},
        },
    )


def _title(column: str, survey: Survey) -> str:
    compared = survey.columns.comparison
    if compared is not None and column == compared.column:
        return f"{compared.unit.capitalize()} error rate ({printable(column, 60)})"
    if column in MEASURES:
        return f"{column_name(column)} ({column})"
    return _TITLES.get(column, printable(column, 80))


def _statistics(what: str, histogram: Histogram) -> dict[str, Any]:
    values = [histogram.mean, *(histogram.quantile(part) for part in (0.5, 0.95, 1.0))]
    return {"what": what, "count": histogram.count, "values": [number(value) for value in values]}


def _joined(histograms: Any) -> Histogram:
    joined = Histogram()
    for histogram in histograms:
        for value, times in histogram:
            joined.add(value, times)
    return joined


def throughput(speed: Speed) -> dict[str, Any] | None:
    """Return the chart of records and audio over the time of work."""
    if not speed.points:
        return None
    # a filter's phase runs a thousand times faster than a recogniser's: drawn with it, it would be the only thing seen
    least_s = _LONG * max(speed.phase_s.values())
    long = [point for point in speed.points if speed.phase_s[point.phase] >= least_s]
    begins: dict[int, float] = {}
    for before, point in zip((None, *long), long, strict=False):
        begins.setdefault(point.phase, 0.0 if before is None else before.at_s)
    return {
        "kind": "throughput",
        "attempts": [at_s for at_s in speed.attempts if at_s > 0],
        "phases": [{"name": f"phase {phase}", "at": at_s} for phase, at_s in begins.items() if len(begins) > 1],
        "loads": [{"from": round(begin, 3), "to": round(end, 3)} for begin, end in speed.loads],
        "points": list(_curve(long, speed.loads)),
    }


def _curve(points: Sequence[Point], loads: Sequence[tuple[float, float]]) -> Iterator[dict[str, float | None]]:
    """Yield the points of the curve, whose values hold since the point before, with gaps where models were loaded."""
    gaps = [*loads]
    if not gaps or gaps[0][0] > 0:
        yield {"at_s": 0.0, "records_per_s": points[0].records_per_s, "rtfx": points[0].rtfx}
    for point in points:
        while gaps and gaps[0][0] < point.at_s:
            end = gaps.pop(0)[1]
            yield {"at_s": round(end, 3), "records_per_s": None, "rtfx": None}
            yield {"at_s": round(end, 3), "records_per_s": point.records_per_s, "rtfx": point.rtfx}
        yield {"at_s": point.at_s, "records_per_s": point.records_per_s, "rtfx": point.rtfx}


def stages(flows: Sequence[StageFlow], speed: Speed) -> dict[str, Any] | None:
    """Return the chart of how long stages were at work, of the time that their phase's workers had."""
    had_s = {phase: wall_s * speed.workers.get(phase, 1) for phase, wall_s in speed.phase_s.items()}
    rows = [
        {
            "name": printable(flow.name, 60),
            "busy_s": round(flow.busy_s, 3),
            "rest_s": round(max(had_s.get(flow.phase, 0.0) - flow.busy_s, 0.0), 3),
        }
        for flow in flows
        if flow.busy_s > 0
    ]
    return {"kind": "stages", "stages": rows} if rows else None


_PERFORMANCE: Sequence[tuple[str, str, str]] = (
    # the figure, what it is called, how it is written
    ("batches", "Batches", "count"),
    ("total_samples", "Records", "count"),
    ("mean_batch", "Records in a batch, on average", "number"),
    ("audio_s", "Audio", "seconds"),
    ("padded_s", "Audio with padding", "seconds"),
    ("waste", "Padding, of the audio", "share"),
    ("model_s", "Model at work", "seconds"),
    ("load_wait_s", "Model waiting for audio", "seconds"),
    ("rtfx", "Times real time, of one worker", "number"),
    ("batch_time_p50", "A batch takes, median", "seconds"),
    ("batch_time_p95", "A batch takes, 95 %", "seconds"),
    ("gpu_utilisation", "GPU at work", "share"),
    ("peak_bytes", "Most memory of a batch", "bytes"),
    ("ooms", "Out of memory", "count"),
)


def performance(run: RunReader) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Yield, for each stage that has measured its batches, what is written about them, and the chart of their shapes;
    figures that it did not measure are left out."""
    for name, stage in (run.summary or {}).get("by_stage", {}).items():
        measured: dict[str, Any] = dict(stage.get("performance") or {})
        if measured.get("batches") and measured.get("total_samples"):
            measured["mean_batch"] = measured["total_samples"] / measured["batches"]
        rows = [
            (title, _written(measured[figure], how))
            for figure, title, how in _PERFORMANCE
            if isinstance(measured.get(figure), int | float)
        ]
        if rows:
            yield (
                {"stage": printable(name, 80), "rows": rows, "shares": list(_batch_shares(measured))},
                _shapes(measured),
            )


def _batch_shares(measured: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the shares of audio and padding in the batches, and of work and waiting in the model's time."""
    padding_s = measured.get("padded_s", 0.0) - measured.get("audio_s", 0.0)
    for what, (name, good), (other, bad) in (
        ("batches", ("audio", measured.get("audio_s", 0.0)), ("padding", max(padding_s, 0.0))),
        ("model", ("at work", measured.get("model_s", 0.0)), ("waiting", measured.get("load_wait_s", 0.0))),
    ):
        whole = good + bad
        if whole > 0:
            parts = [
                {"kind": "kept", "share": f"{good / whole:.6f}"},
                {"kind": "waiting", "share": f"{bad / whole:.6f}"},
            ]
            label = f"{name} {share(good / whole)}, {other} {share(bad / whole)}"
            yield {"what": what, "label": label, "parts": [part for part in parts if float(part["share"]) > 0]}


def _shapes(measured: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the chart of the numbers of batches by their number of records and the length of their longest one.

    The measure `shapes` maps `<records>x<seconds>` to the number of batches.
    """
    points: list[list[float]] = []
    shapes: Mapping[str, Any] = measured.get("shapes") or {}
    for shape, batches in shapes.items():
        records, _, longest_s = shape.partition("x")
        try:
            points.append([float(longest_s), int(records), int(batches)])
        except ValueError:  # another version's
            continue
    return {"kind": "shapes", "points": sorted(points)} if points else None


def _written(value: float, how: str) -> str:
    if how == "bytes":
        return f"{value / 1024**3:,.2f} GiB"
    return {"count": count, "number": number, "seconds": duration_text, "share": share}[how](value)
