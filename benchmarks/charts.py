"""``python -m benchmarks.charts RUN.json FOLDER``: the charts of a run, and its table for a page."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from benchmarks import report
from benchmarks.report import Figure

_OURS: Final = "#2563a8"
_PEER: Final = "#c9802b"
_FLOOR: Final = "#9aa1a9"
_MISSED: Final = "#b3261e"
_INK: Final = "#22262b"
_FAINT: Final = "#e4e7ea"
#: Title of a panel of rates → beginnings of the cases in it.
_RATES: Final = {
    "Submits a second, over 32 connections": ("floor: empty view, 32", "floor: INSERT", "peer: submit, ", "submit, "),
    "Items a second, submitted in batches of 100": ("floor: INSERT", "batch of 100"),
    "Images of 2 MB a second, by one process": ("peer: LiteLLM passes", "image: PNG"),
    "Requests completed a second, by one process": ("floor: Celery", "peer: completed", "completed, "),
    "Reads a second, over 2 connections": (
        "floor: empty view, 2",
        "status: ",
        "queue/status",
        "list, owner: first",
        "list, owner: deep",
    ),
}


def draw(figures: Sequence[Figure], folder: Path, *, prefix: str = "") -> list[Path]:
    """Write what there are figures for, and return where."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"font.size": 9, "axes.titlesize": 10, "text.color": _INK, "axes.labelcolor": _INK}):
        drawn = {"rates": _rates(figures), "times": _times(figures)}
        paths = []
        for name, canvas in drawn.items():
            if canvas is not None:
                paths.append(folder / f"{prefix}{name}.png")
                canvas.savefig(paths[-1], dpi=144, facecolor="white")
    return paths


def _color(one: Figure) -> str:
    return {"floor": _FLOOR, "peer": _PEER}.get(one.case.partition(":")[0], _OURS)


def _canvas(height: float, title: str) -> Canvas:
    canvas = Canvas(figsize=(9, height), layout="constrained")
    engine = canvas.get_layout_engine()
    assert engine is not None
    engine.set(w_pad=0.12, h_pad=0.06, hspace=0.0)  # type: ignore[call-arg]
    canvas.suptitle(title, x=0.012, ha="left", fontsize=11)
    signs = [
        Line2D([], [], color=color, marker="s", linestyle="", markersize=8, label=word)
        for color, word in ((_FLOOR, "floor"), (_PEER, "peer"), (_OURS, "this product"))
    ]
    for color, word in ((_INK, "goal, met"), (_MISSED, "goal, missed")):
        signs.append(Line2D([], [], color=color, marker="|", linestyle="", markersize=10, mew=2, label=word))
    canvas.legend(handles=signs, loc="upper right", ncols=5, frameon=False, handletextpad=0.1, columnspacing=1.0)
    return canvas


def _mark(axes: Axes, goal: float, place: int, *, kept: bool) -> None:
    axes.plot(goal, place, "|", color=_INK if kept else _MISSED, markersize=13, markeredgewidth=2)


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_FAINT)
    axes.tick_params(length=0, colors=_INK)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color=_FAINT, linewidth=0.8)


# --- Rates: one panel for what is comparable --------------------------------------------------------------------------


def _rates(figures: Sequence[Figure]) -> Canvas | None:
    panels = {title: list(_beginning(figures, names)) for title, names in _RATES.items()}
    panels = {title: found for title, found in panels.items() if any(_color(one) == _OURS for one in found)}
    if not panels:
        return None
    heights = [len(found) + 1.0 for found in panels.values()]
    canvas = _canvas(0.27 * sum(heights) + 0.5, "How many: longer is better")
    plots = canvas.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for (title, found), axes in zip(panels.items(), plots[:, 0], strict=True):
        widest = max(max(one.rate or 0, one.least or 0) for one in found)
        axes.barh(range(len(found)), [one.rate or 0 for one in found], color=[_color(one) for one in found], height=0.7)
        for place, one in enumerate(found):
            if one.least:
                _mark(axes, one.least, place, kept=(one.rate or 0) >= one.least)
            axes.text(widest * 1.02, place, f"{one.rate:,.0f}{_compared(one)}", va="center", ha="left")
        axes.set_yticks(range(len(found)), [one.case for one in found])
        axes.set_xlim(0, widest * 1.42)
        axes.set_xticks([])
        axes.invert_yaxis()
        axes.set_title(title, loc="left", fontweight="bold")
        _bare(axes)
    return canvas


def _compared(one: Figure) -> str:
    return f"   {one.peer:.2f} × peer" if one.peer else f"   {one.floor:.2f} × {one.on}" if one.floor else ""


def _beginning(figures: Sequence[Figure], names: Sequence[str]) -> Iterator[Figure]:
    for name in names:
        yield from (one for one in figures if one.rate and one.case.startswith(name))


# --- Times: from the median to p99, beside what p99 may be -----------------------------------------------------------


def _times(figures: Sequence[Figure]) -> Canvas | None:
    found = [one for one in figures if one.p50 and one.p99 and not one.case.startswith("admin:")]
    if not any(_color(one) == _OURS for one in found):
        return None
    canvas = _canvas(0.22 * len(found) + 1.1, "How long: further left is better")
    axes = canvas.subplots()
    for place, one in enumerate(found):
        assert one.p50 is not None
        assert one.p99 is not None
        color = _color(one)
        axes.plot([one.p50, one.p99], [place, place], color=color, linewidth=2.5, solid_capstyle="round", alpha=0.45)
        axes.plot(one.p50, place, "o", color=color, markersize=6)
        axes.plot(one.p99, place, "o", color=color, markersize=6, markerfacecolor="white", markeredgewidth=1.6)
        if one.most:
            _mark(axes, one.most, place, kept=one.p99 <= one.most)
    axes.set_yticks(range(len(found)), [one.case for one in found])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel("ms, on a logarithmic scale: ● the middle time, ○ p99; the goal is for p99")
    _bare(axes)
    return canvas


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.charts", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN.json")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where rates.png and times.png go")
    parser.add_argument("--table", type=Path, metavar="RUN.md", help="where the table goes, as Markdown")
    arguments = parser.parse_args()
    figures = report.read(arguments.run)
    for path in draw(figures, arguments.folder):
        print(path)
    if arguments.table:
        arguments.table.write_text(report.markdown(figures))


if __name__ == "__main__":
    main()
