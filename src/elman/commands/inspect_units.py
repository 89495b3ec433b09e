"""`elman inspect units`: what single units follow, where they are on, and how saturated the gates are."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from elman.commands.inspect_input import check_characters, read_text
from elman.commands.inspect_surprise import SHOWN, save_colored
from elman.commands.kinds import kind_of
from elman.commands.output import console, narrow_console, print_json, reporting
from elman.commands.series_input import read_question
from elman.commands.series_output import PICTURES, check_output, save_picture
from elman.config import suggestion
from elman.errors import ConfigError, DataError
from elman.insight.coloring import ColoredText, table, terminal
from elman.insight.features import Feature, series_features, text_features
from elman.insight.subjects import Subject, series_subject
from elman.insight.units import Activity, Found, Ranking, activity, rank_units, trajectory, units_by_example
from elman.insight.units_drawing import gates_figure, trajectory_figure, unit_over_time_figure
from elman.text.model import TextModel
from elman.training.engine import use_compilation_cache
from elman.training.progress import Reporter, printable

FEWEST = 20
"""Steps from which on units can be ranked."""

LONGEST_PATH = 2000
"""Steps of a path that is drawn."""


@dataclass(frozen=True, eq=False)
class View:
    """What is looked at: a subject, its units, its features, in words where it is from, and the target that a series shows."""

    subject: Subject
    activity: Activity
    features: dict[str, Feature]
    source: str
    target: str = ""
    times: np.ndarray | None = None

    @property
    def text(self) -> str:
        """The text that is looked at; of a series, nothing."""
        return "" if self.times is not None else "".join(self.subject.labels)


def run(parsed: argparse.Namespace) -> int:
    """Look, rank, print and draw."""
    output = check_output(parsed.output, PICTURES, "--output")
    check_characters(parsed)
    wanted = _unit_number(parsed.unit)
    use_compilation_cache()
    with reporting(quiet=False) as reporter:
        reporter.working("looking inside", 0.0)
        is_series = kind_of(parsed.model) == "series"
        view = _look_at_series(parsed, reporter) if is_series else _look_at_text(parsed)
        rankings = _rankings(parsed, view)
        found = units_by_example(view.activity, view.text, parsed.example) if parsed.example else None
        layer, unit = wanted or _best(rankings, found)
        values = view.activity.unit(layer, unit)
        if output is not None:
            _draw(parsed.view, view, rankings, (layer, unit), values, output)
    if parsed.json:
        print_json(_figures(view, rankings, found, (layer, unit), values))
        return 0
    _show(view, rankings, found, (layer, unit), values)
    if output is not None:
        print(f"picture:  {output}")
    return 0


def _unit_number(words: str | None) -> tuple[int, int] | None:
    """Layer and unit of "1:27", counted from 0."""
    if words is None:
        return None
    match = re.fullmatch(r"(\d{1,6}):(\d{1,9})", words)
    if match is None:
        raise ConfigError(f"--unit {words} is no unit: give its layer and its number, counted from 1, such as 1:27")
    return int(match[1]) - 1, int(match[2]) - 1


def _look_at_text(parsed: argparse.Namespace) -> View:
    if parsed.data is not None:
        raise ConfigError(f"--data is for forecasters, but {parsed.model} holds a model of text: use --text or --input")
    model = TextModel.load(parsed.model)
    looked = read_text(parsed, model)
    subject = looked.subject(model)
    return View(subject, activity(subject), text_features("".join(subject.labels)), looked.source)


def _look_at_series(parsed: argparse.Namespace, reporter: Reporter) -> View:
    for flag in ("text", "input", "example"):
        if getattr(parsed, flag) is not None:
            raise ConfigError(f"--{flag} is for models of text, but {parsed.model} holds a forecaster: use --data")
    question = read_question(parsed, parsed.data, "--data", reporter)
    reporter.working("looking inside", 0.0)
    model, panel = question.model, question.ready.panel
    subject = series_subject(model, panel, steps=parsed.characters)
    assert subject.rows is not None
    target = model.horizon.target
    source = parsed.data or "the run's own table"
    features = series_features(panel, subject.rows, target)
    return View(subject, activity(subject), features, source, target, panel.times[subject.rows])


def _rankings(parsed: argparse.Namespace, view: View) -> list[Ranking]:
    chosen, count = view.features, 3
    if parsed.feature is not None:
        if parsed.feature not in chosen:
            hint = suggestion(parsed.feature, chosen)
            raise ConfigError(f"there is no feature {parsed.feature!r}{hint}; there are: {', '.join(chosen)}")
        chosen, count = {parsed.feature: chosen[parsed.feature]}, 10
    if len(view.subject.labels) < FEWEST:
        if parsed.feature is not None:
            raise ConfigError(f"{len(view.subject.labels)} steps are too few to rank units by: give at least {FEWEST}")
        return []
    rankings = rank_units(view.activity, chosen.values(), count=count)
    if parsed.feature is not None and not rankings:
        raise DataError(
            f"{parsed.feature!r} never changes in one half of {view.source}: look at another text, or at more of it"
        )
    return rankings


def _best(rankings: list[Ranking], found: Found | None) -> tuple[int, int]:
    """The unit that is shown where none is named."""
    if found is not None:
        return found.units[0].layer, found.units[0].unit
    return (rankings[0].best[0].layer, rankings[0].best[0].unit) if rankings else (0, 0)


def _named(layer: int, unit: int) -> str:
    return f"{layer + 1}:{unit + 1}"


def colored_unit(view: View, layer: int, unit: int, values: np.ndarray) -> ColoredText:
    """The text, colored by one unit's value; beyond ±1 (relu) by its share of the largest one."""
    most = max(1.0, float(np.abs(values).max()))
    ends = (f"−{most:.3g}", f"+{most:.3g}")
    return ColoredText(view.subject.labels, values / most, f"Unit {_named(layer, unit)} over {view.source}", *ends)


def _draw(
    kind: str, view: View, rankings: list[Ranking], place: tuple[int, int], values: np.ndarray, output: Path
) -> None:
    layer, unit = place
    if kind == "gates":
        if not view.activity.gates[0]:
            raise ConfigError("--view gates: an Elman network has no gates; the other views are text and trajectory")
        save_picture(gates_figure(view.activity), output, f"Gates over {view.source}")
    elif kind == "trajectory":
        path = trajectory(view.activity.values[layer][:LONGEST_PATH])
        title = f"The path of layer {layer + 1}'s states over {view.source}"
        save_picture(trajectory_figure(path, view.subject.labels, title), output, title)
    elif view.times is not None:
        title = f"Unit {_named(layer, unit)} over {view.source}"
        level = view.features["level"].values
        save_picture(unit_over_time_figure(view.times, values, level, view.target, title), output, title)
    else:
        beside = table(_TITLES, _rows(rankings)) if rankings else ""
        save_colored(colored_unit(view, layer, unit, values), output, beside)


_TITLES = ("feature", "best units, correlation", "chance", "meaning")


def _rows(rankings: Sequence[Ranking]) -> list[tuple[str, str, str, str]]:
    return [
        (
            ranking.feature.name,
            "   ".join(f"{_named(one.layer, one.unit)} {one.score:+.2f}" for one in ranking.best),
            f"{ranking.chance:.2f}",
            ranking.feature.meaning,
        )
        for ranking in rankings
    ]


def _figures(
    view: View, rankings: list[Ranking], found: Found | None, place: tuple[int, int], values: np.ndarray
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "source": view.source,
        "steps": len(view.subject.labels),
        "features": [
            {
                "name": ranking.feature.name,
                "meaning": ranking.feature.meaning,
                "chance": ranking.chance,
                "best": [
                    {"layer": one.layer + 1, "unit": one.unit + 1, "score": one.score, "chosen_by": one.chosen_by}
                    for one in ranking.best
                ],
            }
            for ranking in rankings
        ],
        "gates": [
            {"layer": layer + 1, "gate": name}
            | {field: getattr(gate, field).tolist() for field in ("mean", "shut", "open")}
            for layer, gates in enumerate(view.activity.gates)
            for name, gate in gates.items()
        ],
        "unit": {"layer": place[0] + 1, "unit": place[1] + 1, "values": values.tolist()},
    }
    if found is not None:
        names = ("direction", "inside", "outside")
        result["examples"] = {
            "units": [
                {"layer": one.layer + 1, "unit": one.unit + 1} | {name: getattr(one, name) for name in names}
                for one in found.units
            ],
            "spans": [{"start": a, "text": view.text[a:b]} for a, b in found.spans],
        }
    return result


def _show(view: View, rankings: list[Ranking], found: Found | None, place: tuple[int, int], values: np.ndarray) -> None:
    screen = narrow_console()
    print(f"{printable(view.source)}, {len(view.subject.labels):,} steps\n")
    if rankings:
        _print_table(screen, _TITLES[:3], [row[:3] for row in _rows(rankings)])
        print("chosen on the first half, scored on the second; chance: the best that nine decoys reach")
        ranked = {ranking.feature.name for ranking in rankings}
        absent = [name for name in view.features if name not in ranked and len(ranked) > 1]
        print(f"the same all over one half: {', '.join(absent)}\n" if absent else "")
    gates = [
        (f"{layer + 1}", name, *(f"{100 * getattr(gate, field).mean():.0f} %" for field in ("mean", "shut", "open")))
        for layer, kinds in enumerate(view.activity.gates)
        for name, gate in kinds.items()
    ]
    if gates:
        _print_table(screen, ("layer", "gate", "mean", "shut (< 0.1)", "open (> 0.9)"), gates)
        print()
    if found is not None:
        _print_found(view, found)
    if view.times is None:
        colored = colored_unit(view, *place, values)
        print(printable(colored.title))
        console().print(terminal(ColoredText(colored.symbols[:SHOWN], colored.values[:SHOWN], colored.title)))
        if len(values) > SHOWN:
            print(f"… and {len(values) - SHOWN:,} more characters: --output FILE.html shows all of them")


def _print_found(view: View, found: Found) -> None:
    print("on within the examples, off elsewhere:")
    for one in found.units:
        way = "high" if one.direction > 0 else "low"
        print(
            f"  {_named(one.layer, one.unit)} {way}: at {100 * one.inside:.0f} % of the places within, "
            f"{100 * one.outside:.0f} % elsewhere"
        )
    print("elsewhere all of them are on at:")
    for begin, end in found.spans:
        pieces = (view.text[max(0, begin - 20) : begin], view.text[begin:end], view.text[end : end + 20])
        before, within, behind = (printable(piece).replace("\n", "↵") for piece in pieces)
        print(f"  {begin:>6,}  {before}[{within}]{behind}")
    print("" if found.spans else "  no other place\n")


def _print_table(screen: Any, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for title in titles:
        shown.add_column(title)
    for row in rows:
        shown.add_row(*(Text(printable(cell)) for cell in row))
    screen.print(shown)
