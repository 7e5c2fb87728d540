"""The plot of a benchmark report: throughput and padding of each setting. It needs matplotlib, which is an extra."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import UsageError

if TYPE_CHECKING:
    from curate.bench.approaches import ApproachReport
    from curate.bench.batch_size import BatchSizeReport

FORMATS = (".svg", ".png", ".pdf")

_BEST, _OTHER, _PADDING, _TEXT = "#1b7f5c", "#8aa4b8", "#d9a441", "#555555"


def check_plot(path: Path) -> None:
    """Check before the measurement that a plot can be drawn.

    Raises:
        UsageError: matplotlib is missing, or the suffix of the path is unknown.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: the suffix of a plot must be one of {', '.join(FORMATS)}")
    _figure_class()


def save_plot(report: BatchSizeReport | ApproachReport, path: Path) -> None:
    """Write the plot of a report, as SVG, PNG or PDF.

    Raises:
        UsageError: as `check_plot`.
    """
    check_plot(path)
    trials = report.trials
    has_padding = any(trial.waste is not None for trial in trials)
    figure: Any = _figure_class()(
        figsize=(10.0 if has_padding else 7.0, 1.4 + 0.34 * len(trials)), layout="constrained"
    )
    panels: Any = figure.subplots(1, 2 if has_padding else 1, sharey=True, squeeze=False)[0]
    rows = range(len(trials))
    speed = panels[0]
    best = report.best
    colours = [_BEST if trial is best else _OTHER for trial in trials]
    speed.barh(rows, [trial.rtfx or trial.records_per_s or 0.0 for trial in trials], color=colours)
    speed.set_yticks(rows, [trial.name for trial in trials])
    speed.invert_yaxis()
    speed.set_xlabel("times real time" if report.audio_s else "records per second")
    for row, trial in enumerate(trials):
        if not trial.fits:
            speed.text(0.0, row, " out of memory", va="center", color=_TEXT)
    if has_padding:
        panels[1].barh(rows, [100 * (trial.waste or 0.0) for trial in trials], color=_PADDING)
        panels[1].set_xlabel("padding, % of the audio")
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"{report.stage}: {report.records} records, {report.audio_s:,.0f} s, {report.executor}", fontsize=11
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)


def _figure_class() -> Any:
    try:
        return import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise UsageError(f"a plot needs matplotlib ({error}): pip install 'curate-speech[bench]'") from None
