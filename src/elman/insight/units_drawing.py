"""Pictures of units: all gates' saturation, the path of the states, one unit over time."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from elman.insight.units import Activity, Trajectory

INK, SOFT, GRID = "#15181b", "#5f6872", "#ebe8e1"
LAYERS = ("#2670b2", "#d66717", "#4f9d69", "#8b5aa8")
"""A color for each layer; from the fifth on they repeat."""

MARKED = 12
"""Steps along a path that are named."""


def gates_figure(activity: Activity) -> Any:
    """For each gate the share of steps at which it is shut and open, a dot for each unit (Karpathy, Johnson & Li 2015, figure 4).

    Raises: `ValueError` for a network without gates.
    """
    from matplotlib.figure import Figure

    names = list(activity.gates[0])
    if not names:
        raise ValueError("an Elman network has no gates")
    drawn = Figure(figsize=(1.2 + 3.6 * len(names), 4.2), facecolor="white", layout="constrained")
    for axes, name in zip(np.atleast_1d(drawn.subplots(1, len(names), sharey=True)), names, strict=True):
        axes.plot([0, 1], [1, 0], color=GRID, linewidth=1, zorder=0)
        for layer, gates in enumerate(activity.gates):
            color = LAYERS[layer % len(LAYERS)]
            axes.scatter(
                gates[name].shut,
                gates[name].open,
                s=22,
                alpha=0.45,
                linewidth=0,
                color=color,
                label=f"layer {layer + 1}",
            )
        plain(axes)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.set_title(f"{name} gate", color=INK, fontsize=13)
        axes.set_xlabel("share of steps it is shut (< 0.1)", color=SOFT, fontsize=11)
    drawn.axes[0].set_ylabel("share of steps it is open (> 0.9)", color=SOFT, fontsize=11)
    if len(activity.gates) > 1:
        drawn.axes[-1].legend(frameon=False, fontsize=11, loc="upper right")
    return drawn


def trajectory_figure(path: Trajectory, labels: Sequence[str], title: str) -> Any:
    """The states as a path from blue (first) to orange (last), every few steps with what was read there."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(7.5, 6.5), facecolor="white", layout="constrained")
    axes = drawn.subplots()
    points = path.points
    time = np.linspace(0, 1, len(points))
    colors = LinearSegmentedColormap.from_list("time", [LAYERS[0], "#b9b4aa", LAYERS[1]])
    if len(points) > 1:
        lines = np.stack([points[:-1], points[1:]], axis=1)
        axes.add_collection(LineCollection(list(lines), array=time[1:], cmap=colors, linewidth=0.8, alpha=0.5))
    axes.scatter(*points.T, c=time, cmap=colors, s=9, linewidth=0)
    few = len(points) <= 200
    for place in range(0, len(points), 1 if few else max(1, len(points) // MARKED)):
        shown = {"\n": "↵", " ": "␣"}.get(labels[place], labels[place]).replace("$", "\\$")
        axes.annotate(shown, points[place], xytext=(3, 3), textcoords="offset points", fontsize=10, color=INK)
    plain(axes)
    axes.set_title(title.replace("$", "\\$"), color=INK, fontsize=13)
    axes.set_xlabel(f"first principal component, {100 * path.shares[0]:.0f} % of the variance", color=SOFT, fontsize=11)
    axes.set_ylabel(f"second, {100 * path.shares[1]:.0f} %", color=SOFT, fontsize=11)
    return drawn


def unit_over_time_figure(times: np.ndarray, values: np.ndarray, target: np.ndarray, name: str, title: str) -> Any:
    """One unit of a forecaster beneath the target that it sees. times: microseconds since 1970; name: of the target."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(11, 5), facecolor="white", layout="constrained")
    above, below = drawn.subplots(2, 1, sharex=True)
    moments = times.astype("datetime64[us]")
    above.plot(moments, target, color=SOFT, linewidth=1)
    above.set_ylabel(name.replace("$", "\\$"), color=SOFT, fontsize=11)
    below.axhline(0, color=GRID, linewidth=1, zorder=0)
    below.plot(moments, values, color=LAYERS[1], linewidth=1)
    below.set_ylabel("the unit", color=SOFT, fontsize=11)
    for axes in (above, below):
        plain(axes)
    locator = AutoDateLocator(maxticks=9)
    below.xaxis.set_major_locator(locator)
    below.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    drawn.suptitle(title.replace("$", "\\$"), color=INK, fontsize=13)
    return drawn


def plain(axes: Any, size: int = 10) -> None:
    """Two soft lines instead of a frame, and soft numbers of `size` points."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#bdb8ae")
    axes.tick_params(colors=SOFT, labelsize=size)
