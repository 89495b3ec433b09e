"""Pictures of memory: gradients against the lag with what they vanish or explode to, the spectrum of W_hh, what moved an output."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from elman.insight.memory import Memory
from elman.insight.units_drawing import INK, SOFT, plain

FIRST, SECOND = "#2670b2", "#d66717"
LINES = ("#2670b2", "#d66717", "#4f9d69", "#8b5aa8")


def memory_figure(found: Memory, title: str) -> Any:
    """The norm of ds_T/ds_t against the lag, and beside it the singular values of every gate's block of W_hh."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(12, 5.2), facecolor="white", layout="constrained")
    curve, spectrum = drawn.subplots(1, 2, width_ratios=(3, 2))
    curve.fill_between(found.lags, found.low, found.high, color=FIRST, alpha=0.14, linewidth=0, label="least and most")
    curve.plot(found.lags, found.norm, color=FIRST, linewidth=2.4, label="root mean square singular value")
    if found.largest is not None:
        curve.plot(found.lags, found.largest, color=SECOND, linewidth=1.8, label="largest singular value")
    curve.axhline(1, color=SOFT, linewidth=1, linestyle=":")
    if found.half_life is not None:
        curve.axvline(found.half_life, color=SOFT, linewidth=1, linestyle="--")
        curve.annotate(
            f"half-life of the state: {found.half_life}",
            (found.half_life, float(found.low.min())),
            xytext=(6, 2),
            textcoords="offset points",
            color=SOFT,
            fontsize=11,
        )
    curve.set_yscale("log")
    curve.set_xlabel("lag T − t, steps", color=SOFT, fontsize=12)
    curve.set_ylabel(r"size of $\partial s_T / \partial s_t$", color=SOFT, fontsize=12)
    curve.set_title(f"Gradients {found.verdict}: × {found.per_step:.3g} a step", color=INK, fontsize=14)
    curve.legend(frameon=False, fontsize=11)
    for number, one in enumerate(found.spectra):
        name = f"W_hh {one.name}".strip()
        label = f"{name}, radius {one.radius:.2f}"
        color, dash = LINES[number % len(LINES)], ("-", "--", ":", "-.")[number // len(LINES) % 4]
        spectrum.plot(
            np.arange(1, len(one.singular) + 1), one.singular, color=color, linestyle=dash, linewidth=2, label=label
        )
    spectrum.axhline(1, color=SOFT, linewidth=1, linestyle=":")
    # Those of an orthogonal start are all 1, and differ in the seventh digit only.
    spectrum.set_ylim(0, 1.1 * max(1.0, spectrum.get_ylim()[1]))
    spectrum.set_xlabel("number of the singular value", color=SOFT, fontsize=12)
    spectrum.set_title("Singular values of W_hh", color=INK, fontsize=14)
    spectrum.legend(frameon=False, fontsize=11)
    for axes in (curve, spectrum):
        plain(axes, 11)
    drawn.suptitle(_escaped(title), color=SOFT, fontsize=12)
    return drawn


def bars_figure(names: Sequence[str], values: Sequence[float], check: Sequence[float], title: str, unit: str) -> Any:
    """What moved a forecast by column: bars to both sides, and a mark where occlusion puts it; the largest above."""
    from matplotlib.figure import Figure

    order = np.argsort(np.abs(np.asarray(values)))
    drawn = Figure(figsize=(9, 1.6 + 0.42 * len(names)), facecolor="white", layout="constrained")
    axes = drawn.subplots()
    places = np.arange(len(names))
    shown = np.asarray(values)[order]
    axes.barh(places, shown, color=[SECOND if value > 0 else FIRST for value in shown], height=0.62)
    axes.plot(np.asarray(check)[order], places, "D", color=INK, markersize=5, label="occlusion")
    axes.axvline(0, color=SOFT, linewidth=1)
    axes.set_yticks(places, [_escaped(names[number]) for number in order])
    axes.set_xlabel(_escaped(f"moved the forecast by{f', {unit}' if unit else ''}"), color=SOFT, fontsize=12)
    axes.set_title(_escaped(title), color=INK, fontsize=13)
    axes.legend(frameon=False, fontsize=11)
    plain(axes, 11)
    axes.tick_params(axis="y", colors=INK, labelsize=12)
    return drawn


def lags_figure(names: Sequence[str], lags: Sequence[str], moved: np.ndarray, title: str, unit: str) -> Any:
    """What moved a forecast by column and lag, as a heat map with a neutral middle."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    order = np.argsort(-np.abs(moved).sum(axis=1))
    most = float(np.abs(moved).max()) or 1.0
    drawn = Figure(figsize=(2.5 + 1.05 * len(lags), 1.8 + 0.42 * len(names)), facecolor="white", layout="constrained")
    axes = drawn.subplots()
    colors = LinearSegmentedColormap.from_list("moved", [FIRST, "#f7f5f0", SECOND])
    image = axes.imshow(moved[order], aspect="auto", cmap=colors, vmin=-most, vmax=most)
    axes.set_xticks(range(len(lags)), list(lags))
    axes.set_yticks(range(len(names)), [_escaped(names[number]) for number in order])
    axes.set_xlabel("steps before the origin", color=SOFT, fontsize=12)
    axes.set_title(_escaped(title), color=INK, fontsize=13)
    bar = drawn.colorbar(image, ax=axes, pad=0.02)
    bar.set_label(_escaped(f"moved by{f', {unit}' if unit else ''}"), color=SOFT, fontsize=11)
    bar.outline.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=INK, labelsize=11, length=0)
    return drawn


def _escaped(text: str) -> str:
    """Dollar signs as they are: to Matplotlib they begin a formula."""
    return text.replace("$", "\\$")
