"""The sections of the report: curate's own panels, and behind them those of plugins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import attrs

from curate.engine import RunReader
from curate.plugin import PluginHost
from curate.plural import counted
from curate.report import environment, figures
from curate.report.alignment import align
from curate.report.breakdown import BREAKDOWNS, Group
from curate.report.clips import Clip
from curate.report.figures import audio, count, number, rate, share
from curate.report.flow import BalanceTerm, ExitReason, StageFlow
from curate.report.panels import MORE, Column, DrawnChart, OwnPanel, Panel, Section, Table
from curate.report.samples import Sample
from curate.report.scan import FATES, MAX_SAMPLES, Survey
from curate.report.speed import Speed

_WORST = 12
_GROUPS = 15
"""The maximum number of rows of a breakdown; the others are one row together."""


@attrs.frozen
class Findings:
    """What was found out about a run, for the panels that show it.

    Args:
        run: the reader of the run.
        terms: the balance.
        flows: the stages.
        left: why records left.
        clip: makes the clip of a sample.
        problems: receives what could not be read or shown, in words.
    """

    run: RunReader
    survey: Survey
    terms: Sequence[BalanceTerm]
    flows: Sequence[StageFlow]
    left: Sequence[ExitReason]
    speed: Speed
    host: PluginHost
    clip: Callable[[Sample], Clip]
    problems: list[str]


def sections(found: Findings) -> list[Section]:
    """Return the sections in the order of the page; one without panels is left out."""
    compared = found.survey.columns.comparison
    own = [
        Section(
            "balance",
            "Balance",
            "Every record is accounted for, and so is every millisecond of audio.",
            [*_balance(found), *_breakdowns(found), *_lengths(found), *_channels(found), *_mixtures(found)],
        ),
        Section(
            "errors",
            f"The worst {figures.rate_name(found.survey)}",
            "Above the reference, below the recognised text, both as they were compared.",
            list(_worst(found)) if compared is not None else [],
            label="Errors",
        ),
        Section(
            "listen",
            "Listen",
            "Records taken at random: of those left out, some for each reason.",
            [OwnPanel("", "samples", body="listen", data=_samples(found), bare=True)],
        ),
        Section(
            "distributions",
            "Distributions",
            "A whole bar is all records that came in, its green part those that were kept. A line is a filter's limit.",
            list(_distributions(found)),
            "grid three",
        ),
        Section(
            "measures",
            "Measures",
            "Of the audio of all records. A line is a filter's limit.",
            list(_measures(found)),
            "grid three",
        ),
        Section(
            "quantiles",
            "What the measures sound like",
            "Records at three quantiles: 5 %, half, and 95 % of the records have a lower value.",
            list(_quantiles(found)),
            label="Quantiles",
        ),
        Section(
            "speed",
            "Speed",
            "Times are of work: the time between two attempts of the run is left out. "
            "Speeds are without the time in which workers load their models.",
            list(_speed(found)),
        ),
        Section(
            "failures",
            "Failures",
            "Records that failed, by stage and code, with an example of each.",
            [OwnPanel("", "codes", body="failures", data=_failures(found), bare=True)],
        ),
        Section("setup", "Setup", "What was run, with what, and where.", list(_setup(found))),
    ]
    further = Section(MORE, "Further panels", "From plugins.", [], label="More")
    return [section for section in _with_plugins([*own[:-1], further, own[-1]], found) if section.panels]


# curate's own panels.


def _balance(found: Findings) -> Iterator[Panel]:
    yield OwnPanel(
        "",
        "equation",
        wide=True,
        body="equation",
        data={"terms": found.terms, "shares": figures.shares(found.terms)},
    )
    yield Panel("From stage to stage", "funnel", DrawnChart(figures.funnel(found.flows)), wide=True)
    rows = figures.reason_rows(found.left, found.terms)
    if rows:
        yield Panel(
            "Why records were left out",
            "reasons",
            table=Table(
                [
                    Column("Stage", "name"),
                    Column("Because", "pill"),
                    Column("Records", "number"),
                    Column("Of those in", "number"),
                    Column("Audio", "number"),
                ],
                [
                    (
                        row["stage"],
                        (row["fate"], row["because"]),
                        count(row["records"]),
                        share(row["share"]),
                        audio(row["ms"]),
                    )
                    for row in rows
                ],
                stacked=True,
            ),
            wide=True,
        )


def _breakdowns(found: Findings) -> Iterator[Panel]:
    """Yield a table of the records of each dataset, language and speaker, where records have such a column."""
    compared = found.survey.columns.comparison
    titles = ("Records", "Kept", "Kept, share", "Audio", "Audio kept", *(() if compared is None else ("Error rate",)))
    for column, what in BREAKDOWNS.items():
        groups, others, rest = found.survey.breakdown.found(column, _GROUPS)
        if len(groups) < 2:
            continue
        rows = [("(none)" if value is None else value, group) for value, group in groups]
        if rest.records:
            rows.append((f"{others:,} others" if others else "others", rest))
        yield Panel(
            f"By {what}",
            f"by-{column}",
            table=Table(
                [Column(what.capitalize(), "name"), *(Column(title, "number") for title in titles)],
                [(value, *_figures_of(group, with_rate=compared is not None)) for value, group in rows],
                stacked=True,
            ),
            wide=True,
        )


def _figures_of(group: Group, *, with_rate: bool) -> Iterator[str]:
    yield count(group.records)
    yield count(group.kept)
    yield share(group.kept / group.records)
    yield audio(group.ms)
    yield audio(group.kept_ms)
    if with_rate:
        yield rate(group.errors / group.words) if group.words else "–"


def _lengths(found: Findings) -> Iterator[Panel]:
    """Yield the durations that the decoded audio did not confirm, if there are any."""
    by_group: Mapping[str, Mapping[str, Any]] = (found.run.summary or {}).get("audio", {})
    measures = list(by_group.values())
    mismatches = sum(each.get("duration_mismatches", 0) for each in measures)
    if mismatches:
        examples = [example for each in measures for example in each.get("mismatch_examples", ())]
        yield Panel(
            f"Wrong durations of {counted(mismatches)}",
            "durations",
            table=Table(
                [Column("Record", "key"), Column("Claimed, s", "number"), Column("Decoded, s", "number")],
                [(each["_id"], f"{each['claimed_s']:,.3f}", f"{each['decoded_s']:,.3f}") for each in examples],
            ),
        )


def _channels(found: Findings) -> Iterator[Panel]:
    """Yield the findings about recordings of several channels, if there are any."""
    summary = found.run.summary or {}
    measures: list[Mapping[str, Any]] = list(summary.get("audio", {}).values())
    stages: list[Mapping[str, Any]] = [stage.get("performance", {}) for stage in summary.get("by_stage", {}).values()]
    sources = (
        ("two channels of the same signal", stages, "dual_mono"),
        ("the mean of channels of different content was used", measures, "unlike_channels"),
        ("the mean was silent, and the loudest channel was used", measures, "means_replaced"),
    )
    counted = [(finding, sum(each.get(name, 0) for each in where)) for finding, where, name in sources]
    rows = [(finding, count(records)) for finding, records in counted if records]
    if rows:
        table = Table([Column("Finding", "key"), Column("Records", "number")], rows)
        yield Panel("Channels", "channels", table=table)


def _mixtures(found: Findings) -> Iterator[Panel]:
    """Yield the hours that each input of a mixture should have and has, if there is a mixture."""
    stages: Mapping[str, Mapping[str, Any]] = (found.run.summary or {}).get("by_stage", {})
    for name, stage in stages.items():
        partitions: Mapping[str, Mapping[str, Any]] = stage.get("performance", {}).get("partitions", {})
        rows: list[tuple[str, ...]] = [
            (
                partition,
                count(row["records"]),
                f"{row['hours']:,.2f}",
                share(row["share"]),
                "" if row["wanted"] is None else share(row["wanted"]),
                count(row["passes"]),
            )
            for partition, row in partitions.items()
        ]
        if rows:
            titles = ("Records", "Hours", "Share", "Share wanted", "Times read")
            columns = [Column("Input", "key"), *(Column(title, "number") for title in titles)]
            yield Panel(f"{name}: hours of each input", "mixture", table=Table(columns, rows))


def _distributions(found: Findings) -> Iterator[Panel]:
    return _histograms(figures.histograms(found.survey), "distribution")


def _measures(found: Findings) -> Iterator[Panel]:
    yield from _histograms(figures.measures(found.survey), "measure")
    drawn = figures.scatter(found.survey)
    if drawn is not None:
        title = f"{drawn['x']['name']} and {drawn['y']['name']}"
        note = "Up to 1,500 records, taken at random."
        yield Panel(title, "scatter", DrawnChart(drawn), note=note, wide=True)


def _quantiles(found: Findings) -> Iterator[Panel]:
    shown = [
        {
            "title": figures.column_name(column),
            "column": column,
            "examples": [
                {
                    "share": f"{one.share:.0%}",
                    "value": number(one.value),
                    "sample": one.sample,
                    "clip": found.clip(one.sample),
                }
                for one in examples
            ],
        }
        for column, examples in found.survey.measures.examples().items()
    ]
    if shown:
        yield OwnPanel("", "quantile-examples", body="quantiles", data=shown, bare=True)


def _histograms(charts: Iterable[tuple[dict[str, Any], dict[str, Any] | None]], anchor: str) -> Iterator[Panel]:
    for place, (one, drawn) in enumerate(charts, start=1):
        if drawn is None:
            continue
        headings = [Column("", "key"), *(Column(row["what"], "number") for row in one["rows"])]
        values = zip(*((count(row["count"]), *row["values"]) for row in one["rows"]), strict=True)
        rows = [(title, *both) for title, both in zip(_STATISTICS, values, strict=True)]
        yield OwnPanel(
            one["title"],
            f"{anchor}-{place}",
            DrawnChart(drawn),
            Table(headings, rows, tight=True),
            notes=[
                {"limit": f"{threshold.operator} {number(threshold.value)}", "stage": threshold.stage}
                for threshold in one["thresholds"]
            ],
        )


_STATISTICS = ("Records", "Mean", "Median", "95 %", "Maximum")


def _speed(found: Findings) -> Iterator[Panel]:
    throughput = figures.throughput(found.speed)
    if throughput is not None:
        yield Panel("Throughput", "throughput", DrawnChart(throughput), wide=True)
    else:
        note = (
            "No record was finished by the time the report was written, so there is no curve."
            if found.speed.worked_s
            else "The run directory holds no metrics, so there is no curve."
        )
        yield OwnPanel("", "throughput", note=note, body="empty", data=note, bare=True)
    stages = figures.stages(found.flows, found.speed)
    if stages is not None:
        note = "Of the time that the workers of a stage's phase had."
        yield Panel("Stages at work", "stages", DrawnChart(stages), note=note, wide=True)
    for place, (one, shapes) in enumerate(figures.performance(found.run), start=1):
        note = "" if shapes is None else "Batches by their longest record and their number of records."
        yield OwnPanel(
            f"{one['stage']}: batches",
            f"batches-{place}",
            None if shapes is None else DrawnChart(shapes),
            Table([Column("", "key"), Column("", "number")], one["rows"]),
            note,
            shares=one["shares"],
            wide=shapes is not None,
        )


def _worst(found: Findings) -> Iterator[Panel]:
    compared = found.survey.columns.comparison
    shown = [
        {"sample": sample, "clip": found.clip(sample), "alignment": align(sample, compared, found.host)}
        for sample in found.survey.worst.samples()[:_WORST]
        if compared is not None
    ]
    if shown:
        yield OwnPanel("", "worst", body="worst", data=shown, bare=True)


def _samples(found: Findings) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = [
        {
            "fate": fate,
            "count": next(term.records for term in found.terms if term.kind == fate),
            "shown": [
                {"sample": one, "clip": found.clip(one)} for one in found.survey.samples[fate].taken(MAX_SAMPLES[fate])
            ],
            "first": False,
        }
        for fate in FATES
    ]
    for group in groups:
        if group["shown"]:
            group["first"] = True
            break
    return groups


def _failures(found: Findings) -> list[dict[str, Any]]:
    return environment.failures(found.left, found.survey, found.host)


def _setup(found: Findings) -> Iterator[Panel]:
    settings = environment.stage_settings(found.run)
    yield OwnPanel("Stages", "stage-settings", wide=True, body="settings", data=settings)
    for box in environment.boxes(found.run):
        rows = [tuple(row) for row in box["rows"]]
        yield Panel(
            box["title"], f"setup-{box['title'].lower()}", table=Table([Column("", "key"), Column("", "")], rows)
        )


# Panels of plugins.


def _with_plugins(own: Sequence[Section], found: Findings) -> list[Section]:
    """Return the sections with the panels of plugins behind curate's own; one that fails is among the problems."""
    added: dict[str, list[Panel]] = {section.anchor: [] for section in own}
    taken = {"top", *added, *(panel.anchor for section in own for panel in section.panels)}
    for reference in found.host.panels:
        try:
            for panel in _panels_of(reference.load()(found.run)):
                if panel.anchor in taken:
                    raise ValueError(f"the page has another {panel.anchor!r}; choose another anchor")
                taken.add(panel.anchor)
                added[panel.section if panel.section in added else MORE].append(panel)
        except Exception as error:  # noqa: BLE001 (third-party code; the rest of the report is not to suffer)
            found.problems.append(f"{reference} failed: {type(error).__name__}: {error}")
    return [attrs.evolve(section, panels=[*section.panels, *added[section.anchor]]) for section in own]


def _panels_of(answer: object) -> list[Panel]:
    """Return the panels that a plugin's function has returned: one, several, or none."""
    if answer is None:
        return []
    panels = [answer] if isinstance(answer, Panel) else list(cast("Iterable[object]", answer))
    for panel in panels:
        if not isinstance(panel, Panel):
            raise TypeError(f"a function for the report returns panels, not {panel!r:.80}")
    return cast("list[Panel]", panels)
