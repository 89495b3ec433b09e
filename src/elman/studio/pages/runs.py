"""The page Runs: every run of the folder, live while it trains; one run's curves and samples; several compared."""

import html
from typing import Any
from urllib.parse import quote

from nicegui import ui

from elman.studio.app import Studio
from elman.studio.layout import attribute, card, empty_state, error_state, heading, numbers, subheading
from elman.studio.run_charts import block_options, compare_options, loss_options, loss_series, sparkline
from elman.studio.runs_index import WatchedRun
from elman.studio.samples import SampleTimeline
from elman.studio.texts import in_digits, in_time

LIVE_SECONDS = 0.8
"""How often a page looks for what is new: a curve lags less than a second behind."""

SLOW_LOOKS = 6
"""The curves of every block are drawn anew at every so manieth look only: they move slowly, and drawing is what costs."""

LIST_SECONDS = 2.0
BLOCK_CURVES = ("learning_rate", "gradient_norm", "speed")


def page(studio: Studio) -> None:
    """The list, or what the address asks for: `?run=NAME`, `?compare=NAME&compare=…` as names with a bar between."""
    if name := studio.query.get("run"):
        RunPage(studio, name).build()
    elif names := studio.query.get("compare"):
        _compare(studio, names.split("|"))
    else:
        RunList(studio).build()


class RunList:
    """All runs of the folder; built anew only where something changed that can be seen."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.t = studio, studio.t
        self.shown: list[tuple] = []
        self.chosen: set[str] = set()

    def build(self) -> None:
        """The heading, and a place that fills itself."""
        heading(self.t("common.runs"), self.t("runs.lead", folder=str(self.studio.shared.runs)))
        self.place = ui.element("div")
        ui.timer(LIST_SECONDS, self._refresh)
        ui.timer(0, self._refresh, once=True)

    async def _refresh(self) -> None:
        runs = await self.studio.read(self.studio.shared.index.runs)
        facts = await self.studio.read(lambda: [_facts(run) for run in runs])
        if facts == self.shown and (facts or self.place.default_slot.children):
            return
        self.shown = facts
        self.place.clear()
        with self.place:
            if not runs:
                t = self.t
                empty_state(t("runs.none"), t("runs.none_hint"), link=t("common.to_train"), address="/train")
            else:
                self._table(runs)

    def _table(self, runs: list[WatchedRun]) -> None:
        t = self.t
        with card(), ui.element("table").classes("runs"):
            with ui.element("thead"), ui.element("tr"):
                for name in ("", "runs.run", "runs.state", "runs.score", "runs.loss", "runs.about"):
                    with ui.element("th").props("scope=col"):
                        ui.label(t(name) if name else "")
            with ui.element("tbody"):
                for run in runs:
                    self._row(run)
        self.compare = ui.button(t("runs.compare"), on_click=self._go).props("unelevated no-caps").classes("q-mt-md")
        self._enable()

    def _row(self, run: WatchedRun) -> None:
        t = self.t
        with ui.element("tr"):
            with ui.element("td").classes("pick"):
                box = ui.checkbox(
                    value=run.name in self.chosen, on_change=lambda event: self._pick(run.name, event.value)
                )
                box.props(f'aria-label="{attribute(t("runs.select", name=run.name))}"')
                box.set_enabled(bool(run.curves.starts))
            with ui.element("td").classes("name"):
                ui.link(run.name, f"/?run={quote(run.name, safe='')}").props("dir=ltr")
            with ui.element("td"):
                ui.label(t(f"runs.{run.state}")).classes(f"state {run.state}")
            with ui.element("td"):
                ui.label(score_of(run, self.studio.language))
            with ui.element("td"):
                ui.html(sparkline(run), sanitize=False)
            with ui.element("td").classes("wide soft"):
                ui.label(run.problem if run.state == "broken" else network_of(run))

    def _pick(self, name: str, chosen: bool) -> None:
        (self.chosen.add if chosen else self.chosen.discard)(name)
        self._enable()

    def _enable(self) -> None:
        self.compare.set_enabled(len(self.chosen) > 1)

    def _go(self) -> None:
        ui.navigate.to(f"/?compare={quote('|'.join(sorted(self.chosen)), safe='')}")


class RunPage:
    """One run, followed while it trains."""

    def __init__(self, studio: Studio, name: str) -> None:
        self.studio, self.t, self.name = studio, studio.t, name
        self.scale, self.seen, self.looks = "linear", -1, 0

    def build(self) -> None:
        """The heading, and a place that fills itself: reading a long log takes a moment."""
        heading(self.name)
        with ui.element("p").classes("lead"):
            ui.link(self.t("runs.back"), "/")
        self.place = ui.element("div")
        with self.place, card():
            ui.element("div").classes("chart")
        ui.timer(0, self._begin, once=True)

    async def _begin(self) -> None:
        found = await self.studio.read(self.studio.shared.index.named, self.name)
        if found is not None:
            self.run = found
            await self.studio.read(self.run.refresh, at_least=0.0)
        self.place.clear()
        with self.place:
            if found is None:
                error_state(self.t, self.t("runs.unknown_run", name=self.name))
                return
            self._build()
            self.timer = ui.timer(LIVE_SECONDS, self._follow)
        ui.on("looked-at", self._look)
        await self._follow()
        ui.run_javascript("emitEvent('looked-at', !document.hidden)")

    async def _look(self, event: Any) -> None:
        """A tab behind others costs nothing; in front again, it catches up at once."""
        self.timer.active = bool(event.args)
        if self.timer.active:
            await self._follow()

    def _build(self) -> None:
        t = self.t
        self.problem = ui.label().classes("problem").props("role=status")
        with card():
            names = [t("runs.state"), t("runs.best"), t("runs.updates"), t("runs.elapsed")]
            self.labels = numbers(dict.fromkeys(names, "–"), main=t("runs.best"))
            with ui.element("div").classes("studio-row"):
                for name, address in self._links():
                    ui.link(name, f"{address}?run={quote(self.name, safe='')}")
        with card():
            with ui.element("div").classes("studio-row").style("justify-content: space-between"):
                subheading(t("runs.loss"))
                scales = {"linear": t("runs.linear"), "log": t("runs.log")}
                switch = ui.toggle(scales, value="linear", on_change=self._rescale).props("no-caps dense unelevated")
                switch.props(f'aria-label="{t("runs.axis")}" role="group"')
            ui.label(t("runs.loss_text" if self.run.kind == "text" else "runs.loss_series")).classes("soft small")
            self.loss = _live_chart(loss_options(self.run, t, self.scale)).classes("chart")
        with ui.element("div").classes("grid-2").style("margin-top: 1.1rem"):
            self.blocks = {}
            for curve in BLOCK_CURVES:
                with card():
                    subheading(t(f"runs.{curve}"))
                    self.blocks[curve] = _live_chart(block_options(self.run, curve, self.scale)).classes("chart low")
        if self.run.kind != "series":
            with card():
                subheading(t("runs.samples"))
                self.timeline = SampleTimeline(self.studio, self.run)
                self.timeline.build()
        with card(), ui.expansion(t("runs.settings")).classes("w-full"):
            _settings(self.run)

    def _links(self) -> list[tuple[str, str]]:
        t = self.t
        use = (t("runs.forecast_with"), "/forecast") if self.run.kind == "series" else (t("runs.write_with"), "/write")
        return [use, (t("runs.look_inside"), "/inside")]

    async def _rescale(self, event: Any) -> None:
        self.scale, self.seen, self.looks = event.value, -1, 0
        await self._follow()

    async def _follow(self) -> None:
        """Show what is new, and nothing where nothing is."""
        version = await self.studio.read(self.run.refresh)
        state = self.run.state
        self.labels[self.t("runs.state")].text = self.t(f"runs.{state}")
        self.timer.interval = LIVE_SECONDS if state == "training" else 4 * LIVE_SECONDS
        problem = self.run.problem
        self.problem.text = self.t("runs.gone") if problem == "gone" else problem
        if version == self.seen:
            return
        self.seen = version
        language, t = self.studio.language, self.t
        self.labels[t("runs.best")].text = score_of(self.run, language)
        self.labels[t("runs.updates")].text = str(in_digits(self.run.iteration, language))
        self.labels[t("runs.elapsed")].text = (
            in_time(self.run.elapsed, language) if self.run.elapsed is not None else "–"
        )
        if not self.run.curves.starts and not self.problem.text:
            self.problem.text = t("runs.nothing_logged")
        axis = {"xAxis": {"type": "log" if self.scale == "log" else "value"}}
        series = await self.studio.read(loss_series, self.run, t, self.scale)
        self.loss.run_chart_method("setOption", {**axis, "series": series})
        self.looks += 1
        for curve, chart in self.blocks.items() if self.looks % SLOW_LOOKS == 1 or state != "training" else ():
            data = await self.studio.read(self.run.block_curve, curve, self.scale)
            chart.run_chart_method("setOption", {**axis, "series": [{"id": curve, "data": data}]})
        if self.run.kind != "series":
            self.timeline.follow()


def _live_chart(options: dict[str, Any]) -> ui.echart:
    """A chart that rests as soon as it is drawn: ECharts' canvas would otherwise ask for ten more frames after every change."""
    chart = ui.echart(options)
    return chart.on("chart:rendered", js_handler=f"() => getElement({chart.id}).chart.getZr().setSleepAfterStill(1)")


def _facts(run: WatchedRun) -> tuple:
    """What the list shows of a run: where it is the same, so is the row."""
    return run.name, run.state, run.best, run.problem, run.iteration if run.state == "training" else -1


def _compare(studio: Studio, names: list[str]) -> None:
    heading(studio.t("runs.compare_title"))
    with ui.element("p").classes("lead"):
        ui.link(studio.t("runs.back"), "/")
    found = [run for name in names[:12] if (run := studio.shared.index.named(name)) is not None]
    for name in names:
        if name not in [run.name for run in found]:
            error_state(studio.t, studio.t("runs.unknown_run", name=name))
    if not found:
        return
    with card():
        chart = ui.echart(compare_options(found, studio.t)).classes("chart").style("height: 30rem")

    async def follow() -> None:
        for run in found:
            await studio.read(run.refresh)
        chart.run_chart_method("setOption", {"series": compare_options(found, studio.t)["series"]})

    ui.timer(2 * LIVE_SECONDS, follow)
    ui.timer(0, follow, once=True)


def score_of(run: WatchedRun, language: str) -> str:
    """The best validation in the run's own unit; a dash where there is none."""
    if run.best is None:
        return "–"
    return str(in_digits(float(f"{run.best:.4f}"), language))


def network_of(run: WatchedRun) -> str:
    """Cell, units and what it was trained on."""
    network, about = run.description.get("network", {}), run.description.get("run", {})
    if not isinstance(network, dict) or not isinstance(about, dict):
        return ""
    inputs = about.get("inputs") or [about.get("input", "")]
    names = ", ".join(str(name).rstrip("/").rsplit("/", 1)[-1] for name in list(inputs)[:2])
    layers = network.get("layers", 1)
    size = f"{layers} × {network.get('hidden', '?')}" if layers != 1 else str(network.get("hidden", "?"))
    return f"{network.get('cell', '?')} {size} · {names}"


def _settings(run: WatchedRun) -> None:
    """All settings as one element: a page goes through each of its elements whenever one of them changes."""
    rows = []
    for group, values in run.description.items():
        if isinstance(values, dict):
            rows.append(f'<tr><th colspan="2" scope="colgroup">{html.escape(str(group))}</th></tr>')
            cells = ((html.escape(str(name)), html.escape(str(value))) for name, value in values.items())
            rows += [f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in cells]
    ui.html(f'<table class="settings-table"><tbody>{"".join(rows)}</tbody></table>', sanitize=False)
