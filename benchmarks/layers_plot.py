"""What `layers.py` has written, as a picture (docs/pictures/layers-training.svg and .png) and as tables in Markdown, printed.

python benchmarks/layers_plot.py                                            results/layers.json
python benchmarks/layers_plot.py --name layers-small --pictures /tmp        another file of results, the picture elsewhere
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from layers_libraries import Case
from measuring import RESULTS

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
CELLS = {"tanh": "Elman (tanh)", "gru": "GRU", "lstm": "LSTM"}
COLUMNS = {
    "torch": "PyTorch",
    "torch-compile": "torch.compile",
    "keras-torch": "Keras on PyTorch",
    "keras-jax": "Keras on JAX",
    "flax": "Flax",
    "equinox": "Equinox",
    "scan": "lax.scan",
    "scan-block": "lax.scan, many updates a call",
    "elman-scan": "elman, kernels off",
    "numpy": "NumPy program",
}
SHORT = {**COLUMNS, "scan-block": "lax.scan, many"}
"""Names for a cell of a table."""

INK, FAINT, GRID = "#22262b", "#6b7480", "#dfe3e8"
MARKS = (
    ("torch", "PyTorch", "#2563a8", "o", -0.14),
    ("best_jax_peer", "the quickest JAX peer of each shape", "#d9661f", "D", 0.14),
)
"""Which ratio, what it is called, color, mark, and how far it stands off the middle of its row."""


def shape_name(case: Case) -> str:
    """A row of the picture and of the tables."""
    shape = f"{case.batch} × {case.hidden} × {case.steps}"
    return shape if case.characters else f"{shape}, {case.inputs} inputs"


def ratio_of(summary: dict[str, Any], key: str) -> dict[str, float] | None:
    """The ratio to a peer, or to the one that `best_jax_peer` or `best_peer` names."""
    return summary["ratios"].get(summary.get(key, key) if key.startswith("best") else key)


def shown(summaries: dict[str, Any], cell: str, *, training: bool) -> dict[str, dict[str, Any]]:
    """Summaries of one cell by the name of their shape: characters first, small ones first."""
    chosen = [(Case(**one["case"]), one) for one in summaries.values()]
    chosen = [(case, one) for case, one in chosen if case.cell == cell and case.training == training]
    chosen.sort(key=lambda pair: (not pair[0].characters, pair[0].batch * pair[0].steps * pair[0].hidden ** 2))
    return {shape_name(case): one for case, one in chosen}


# The picture ------------------------------------------------------------------------------------------------------------------


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """One panel for each cell, a row for each shape, a mark for each of the two ratios; a line at 1."""
    matplotlib.rcParams.update(
        {"font.family": "DejaVu Sans", "font.size": 9, "svg.hashsalt": "layers", "text.color": INK}
    )
    by_cell = {cell: shown(results["summaries"], cell, training=True) for cell in CELLS}
    names = list(dict.fromkeys(name for rows in by_cell.values() for name in rows))
    if not names:
        raise SystemExit("there is no training case to draw")
    figure, panels = pyplot.subplots(1, 3, figsize=(10, 1.9 + 0.3 * (len(names) + 1)), sharex=True, sharey=True)
    means = results["geometric_means"].get("training", {})
    for axes, (cell, title) in zip(panels, CELLS.items(), strict=True):
        draw_panel(axes, names, by_cell[cell], means.get(cell, {}))
        axes.set_title(title, loc="left", fontweight="bold", color=INK, fontsize=10)
    panels[0].set_yticks(range(len(names) + 1), [*names, "geometric mean"])
    panels[0].get_yticklabels()[-1].set_fontweight("bold")
    panels[0].invert_yaxis()
    panels[0].set_xlim(left=min(0.8, panels[0].get_xlim()[0]))
    panels[1].set_xlabel(
        "times as long as elman takes for the same update (right of the line: elman is quicker)", color=FAINT
    )
    handles, labels = panels[0].get_legend_handles_labels()
    height = figure.get_figheight()
    figure.text(0.012, 1 - 0.28 / height, "A training step beside elman's", fontsize=13, fontweight="bold")
    machine = results["machine"]
    under = f"rows: batch × units × steps, characters if nothing is said; {machine['processor']}, {machine['cores']} cores, float32"
    figure.text(0.012, 1 - 0.53 / height, under, color=FAINT)
    figure.legend(handles, labels, loc="upper right", ncols=2, frameon=False, bbox_to_anchor=(0.995, 1 - 0.08 / height))
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.62 / height))
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "layers-training.svg", folder / "layers-training.png"]
    figure.savefig(paths[0], facecolor="white", metadata={"Date": None})
    figure.savefig(paths[1], facecolor="white", dpi=160)
    pyplot.close(figure)
    return paths


def draw_panel(axes: Axes, names: list[str], rows: dict[str, Any], means: dict[str, Any]) -> None:
    """One cell's marks: medians, a thin line from the least to the greatest ratio of a round, geometric means with their number."""
    last = len(names)
    for key, label, color, mark, off in MARKS:
        placed = [(place + off, ratio_of(rows[name], key)) for place, name in enumerate(names) if name in rows]
        there = [(place, ratio) for place, ratio in placed if ratio is not None]
        places = [place for place, _ in there]
        axes.hlines(
            places, [r["min"] for _, r in there], [r["max"] for _, r in there], color=color, linewidth=1, alpha=0.5
        )
        axes.plot([r["median"] for _, r in there], places, mark, color=color, markersize=4.5, label=label)
        if key in means:
            mean = means[key]["ratio"]
            axes.plot([mean], [last + off], mark, color=color, markersize=7)
            text = {
                "xytext": (7, 0),
                "textcoords": "offset points",
                "va": "center",
                "fontsize": 8,
                "fontweight": "bold",
            }
            axes.annotate(f"{mean:.1f}", (mean, last + off), color=color, **text)
    axes.axvline(1, color=INK, linewidth=1.2, zorder=0)
    axes.axhline(last - 0.5, color=GRID, linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=INK)
    axes.set_ylim(-0.6, last + 0.6)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)


# The tables -------------------------------------------------------------------------------------------------------------------


def markdown(results: dict[str, Any]) -> str:
    """Tables for training and inference, one for each cell, and the geometric means."""
    parts = []
    names = [name for name in COLUMNS if any(name in one["ratios"] for one in results["summaries"].values())]
    for mode, training in (("Training", True), ("Inference", False)):
        notes: list[str] = []
        for cell, title in CELLS.items():
            rows = shown(results["summaries"], cell, training=training)
            if rows:
                parts += [
                    f"### {mode}, {title}",
                    cell_table(rows, names, results["geometric_means"], cell, mode.lower()),
                ]
            for shape, one in rows.items():
                notes += [f"- {SHORT.get(name, name)}, {title}, {shape}: {note}" for name, note in one["notes"].items()]
        means = results["geometric_means"].get(mode.lower(), {}).get("all", {})
        if means:
            keys = [*names, "best_jax_peer", "best_peer"]
            titles = {
                **COLUMNS,
                "best_jax_peer": "the best JAX peer of each shape",
                "best_peer": "the best peer of each shape",
            }
            lines = [f"| {titles[k]} | {means[k]['ratio']:.2f} | {means[k]['cases']} |" for k in keys if k in means]
            parts += [
                f"### {mode}, geometric means over all cells",
                "\n".join(["| against | ratio | cases |", "|---|---|---|", *lines]),
            ]
        parts += ["\n".join(notes)] if notes else []
    return "\n\n".join(parts)


def cell_table(rows: dict[str, Any], names: list[str], means: dict[str, Any], cell: str, mode: str) -> str:
    """One cell's shapes: elman's milliseconds and its share of the product's rate, then the others' ratios."""
    used = [name for name in names if any(name in one["ratios"] for one in rows.values())]
    head = [
        "batch × units × steps",
        "elman, ms",
        "of the product's rate",
        *(SHORT[name] for name in used),
        "best on JAX",
    ]
    lines = [head, ["---"] * len(head)]
    for shape, one in rows.items():
        ours, share, best = one["seconds"].get("elman"), one.get("share"), ratio_of(one, "best_jax_peer")
        cells = ["" if ours is None else f"{1e3 * ours['median']:.3g}", "" if share is None else f"{100 * share:.0f} %"]
        cells += [f"{one['ratios'][name]['median']:.2f}" if name in one["ratios"] else "" for name in used]
        cells.append("" if best is None else f"{best['median']:.2f} ({SHORT[one['best_jax_peer']]})")
        lines.append([shape, *cells])
    found = means.get(mode, {}).get(cell, {})
    figures = [f"**{found[name]['ratio']:.2f}**" if name in found else "" for name in (*used, "best_jax_peer")]
    lines.append(["**geometric mean**", "", "", *figures])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Draw, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="layers", help="of the file of results")
    parser.add_argument("--pictures", type=Path, default=PICTURES, help="folder of the pictures")
    parsed = parser.parse_args()
    results = json.loads((RESULTS / f"{parsed.name}.json").read_text())
    print(markdown(results))
    for path in draw(results, parsed.pictures):
        print(f"written: {path}")


if __name__ == "__main__":
    main()
