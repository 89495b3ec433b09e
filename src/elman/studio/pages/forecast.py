"""The page Forecast: a forecaster asked at any moment of a table, and its scores beside those of simple methods."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from nicegui import ui

from elman.errors import DataError, ElmanError
from elman.reports.drawing import day_of
from elman.reports.forecasts import error_panels, score_table, shown_figure, shown_metrics
from elman.reports.series_report import read_evaluation
from elman.series.answers import last_measured
from elman.series.cleaning.findings import DataReport
from elman.series.cleaning.units import unit_of
from elman.series.model import SeriesModel
from elman.series.panel import Panel
from elman.series.recent import read_recent
from elman.series.results import fans
from elman.series.scoring.moments import local_times
from elman.series.trainer import locate, reopen
from elman.studio.app import Studio
from elman.studio.forecast_charts import error_options, fan_options, slice_options
from elman.studio.layout import card, heading, subheading
from elman.studio.models import Model
from elman.studio.training import MOST_UPLOADED, Trainings, keep_upload
from elman.training.progress import Reporter, printable
from elman.training.runs import Run

MOST_FINDINGS = 12
MOST_SERIES = 200


@dataclass(frozen=True, eq=False)
class Asked:
    """A model, the rows that it is asked about, and what was found in them."""

    model: SeriesModel
    panel: Panel
    report: DataReport
    warnings: tuple[str, ...] = ()

    @property
    def last(self) -> np.ndarray:
        """Of each series the last row with a measurement: the latest moment at which a forecast can be made."""
        return last_measured(self.panel, self.model.encoding.known)

    def place(self, series: int, time: str) -> int:
        """Which row of a series, counted from its first, is the last by a time of the table's clock. Raises: `DataError`."""
        try:
            wanted = np.datetime64(datetime.fromisoformat(time).replace(tzinfo=None), "us").astype(np.int64)
        except ValueError:
            raise DataError(f"{time[:40]!r} is no time: year-month-day hour:minute, such as 2020-01-31 12:00") from None
        first, last = int(self.panel.offsets[series]), int(self.last[series])
        clock = local_times(self.panel.times[first : last + 1], self.panel.time_zone)
        return max(0, int(np.searchsorted(clock, wanted, side="right")) - 1)

    def fan(self, series: int, back: int) -> dict[str, Any]:
        """The forecast made `back` rows before the last one. Raises: `DataError` for a series without measurements."""
        first, last = int(self.panel.offsets[series]), int(self.last[series])
        if last < first:
            raise DataError(f"the series {self.panel.names[series]!r} has no measurement to forecast from")
        return fans(self.model, self.panel, np.asarray([max(first, last - back)]))[0]


def ask(studio: Studio, model: SeriesModel, path: Path, table: str) -> Asked:
    """Read the rows: those of the run at `path`, or another table's. Raises what reading a table raises."""
    if not table:
        if not path.is_dir():
            raise DataError(f"{path.name} is a bundle, which holds no rows: give a table")
        ready = reopen(Run(path))
        return Asked(model, ready.panel, ready.report)
    found, _ = locate(table, studio.shared.data_folder, Reporter())
    recent = read_recent(model, found, forecasting=False)
    return Asked(model, recent.panel, recent.report, tuple(recent.warnings))


class ForecastPage:
    """The choice of model and rows, the fan, and the scores."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.t = studio, studio.t
        self.model: SeriesModel | None = None
        self.path = Path()
        self.asked: Asked | None = None
        self.waiting = False

    def build(self) -> None:
        """The fields; the rest follows from a model."""
        t = self.t
        heading(t("common.forecast"), t("forecast.lead"))
        with card():
            self.studio.model_picker(self._chosen, kind="series")
            with ui.element("div").classes("model-picker").style("margin-top: .8rem"):
                self.table = ui.input(t("forecast.table")).props("outlined dense dir=ltr stack-label")
                upload = ui.upload(
                    label=t("forecast.upload"), auto_upload=True, max_file_size=MOST_UPLOADED, on_upload=self._uploaded
                )
                upload.props("flat bordered").classes("w-full")
            with ui.element("div").classes("studio-row").style("margin-top: .8rem"):
                self.button = ui.button(t("forecast.show"), on_click=self._ask).props("unelevated no-caps")
                self.problem = ui.label().classes("problem").props("role=alert")
            self.button.disable()
        self.place = ui.element("div")
        self.scores = ui.element("div")

    async def _chosen(self, path: Path, model: Model) -> None:
        assert isinstance(model, SeriesModel)
        self.path, self.model = path, model
        self.button.enable()
        self._show_scores()
        if path.is_dir() or self.table.value:
            await self._ask()

    async def _uploaded(self, event: Any) -> None:
        trainings = Trainings(self.studio.shared.runs, self.studio.shared.data_folder)
        try:
            self.table.value = str(await keep_upload(trainings, event.file))
        except ElmanError as error:
            self.problem.text = str(error)

    async def _ask(self) -> None:
        assert self.model is not None
        self.problem.text = ""
        self.button.props("loading")
        try:
            table = (self.table.value or "").strip()
            self.asked = await self.studio.compute(ask, self.studio, self.model, self.path, table)
            fan = await self.studio.compute(self.asked.fan, 0, 0)
        except ElmanError as error:
            self.problem.text = " ".join(str(error).split())
            return
        finally:
            self.button.props(remove="loading")
        self.place.clear()
        with self.place:
            self._build_fan(self.asked, fan)

    def _build_fan(self, asked: Asked, fan: dict[str, Any]) -> None:
        t, panel = self.t, asked.panel
        target = asked.model.horizon.target
        with card():
            unit = unit_of(target)
            subheading(f"{target}" + (f" [{unit}]" if unit and unit not in target else ""))
            self.caption = ui.label().classes("soft small").style("min-height: 1.5rem")
            self.chart = ui.echart(fan_options(fan, t)).classes("chart")
            with ui.element("div").classes("studio-row"):
                if panel.series_count > 1:
                    names = dict(enumerate(panel.names[:MOST_SERIES]))
                    self.series: Any = ui.select(names, value=0, label=t("forecast.series"), on_change=self._reseries)
                    self.series.props("outlined dense").style("min-width: 12rem")
                else:
                    self.series = None
                self.moment = ui.input(t("forecast.moment")).props("type=datetime-local outlined dense stack-label")
                self.moment.on("keydown.enter", self._moment_chosen).on("blur", self._moment_chosen)
                ui.button(t("forecast.earlier"), on_click=lambda: self._move(-1)).props("outline no-caps")
                ui.button(t("forecast.later"), on_click=lambda: self._move(1)).props("outline no-caps")
            with ui.element("div").classes("scrub").style("margin-top: .6rem"):
                rows = int(asked.last[0] - panel.offsets[0])
                self.slider = ui.slider(min=0, max=max(1, rows), value=rows, on_change=self._refresh).props("dir=ltr")
                self.slider.props(f'aria-label="{t("forecast.origin")}"')
        with card():
            subheading(t("forecast.data"))
            ui.label(t("forecast.rows", rows=panel.row_count, step=str(panel.step))).props("dir=auto")
            sentences = [*asked.warnings, *(finding.sentence for finding in asked.report.findings)]
            for sentence in sentences[:MOST_FINDINGS]:
                ui.label(f"· {printable(sentence)}").classes("soft").props("dir=auto").style("overflow-wrap: anywhere")
        self._say(fan)

    def _say(self, fan: dict[str, Any]) -> None:
        each = f" · {self.t('forecast.each', ahead=fan['each_before'])}" if "each_before" in fan else ""
        self.moment.value = fan["origin"][:16]
        self.caption.text = f"{self.t('forecast.origin')}: {day_of(fan['origin'])}{each}"

    async def _reseries(self) -> None:
        assert self.asked is not None
        number = int(self.series.value)
        rows = int(self.asked.last[number] - self.asked.panel.offsets[number])
        self.slider.props(f"max={max(1, rows)}")
        self.slider.value = rows
        await self._refresh()

    async def _moment_chosen(self) -> None:
        assert self.asked is not None
        self.problem.text = ""
        try:
            self.slider.value = self.asked.place(self._number(), self.moment.value or "")
        except DataError as error:
            self.problem.text = str(error)

    def _number(self) -> int:
        """Which series is shown."""
        return int(self.series.value) if self.series is not None else 0

    async def _move(self, way: int) -> None:
        assert self.asked is not None
        step = max(1, self.asked.model.horizon.furthest)
        self.slider.value = min(max(0, self.slider.value + way * step), int(self.slider.props["max"]))

    async def _refresh(self) -> None:
        """The forecast at the slider's place; while one is computed, only the newest place is kept in mind."""
        if self.waiting or self.asked is None:
            return
        self.waiting = True
        shown: tuple[int, int] | None = None
        try:
            while shown != (wanted := (self._number(), int(self.slider.value))):
                shown = number, place = wanted
                rows = int(self.asked.last[number] - self.asked.panel.offsets[number])
                fan = await self.studio.compute(self.asked.fan, number, rows - place)
                self.chart.run_chart_method("setOption", fan_options(fan, self.t), {"replaceMerge": ["series"]})
                self._say(fan)
        except ElmanError as error:
            self.problem.text = str(error)
        finally:
            self.waiting = False

    def _show_scores(self) -> None:
        """What the run's evaluation says; nothing is computed anew."""
        t = self.t
        self.scores.clear()
        with self.scores:
            try:
                evaluation = read_evaluation(self.path) if self.path.is_dir() else {}
            except ElmanError as error:
                evaluation, self.problem.text = {}, str(error)
            with card():
                subheading(t("forecast.scores"))
                if not evaluation:
                    ui.label(t("forecast.no_scores")).classes("soft")
                    return
                ui.label(str(evaluation.get("verdict", ""))).props("dir=ltr").style(
                    "font-weight: 600; margin-bottom: .6rem"
                )
                self._score_table(evaluation)
            panels = error_panels(evaluation)
            if panels:
                with ui.element("div").classes("grid-2").style("margin-top: 1.1rem"):
                    for panel in panels:
                        with card():
                            subheading(t("forecast.by", what=panel.title))
                            ui.echart(error_options(panel)).classes("chart low")
            for piece in list(evaluation.get("slices") or [])[:4]:
                with card():
                    subheading(t("forecast.slices") + (f" · {piece['series']}" if piece.get("series") else ""))
                    ui.echart(slice_options(piece, t)).classes("chart")

    def _score_table(self, evaluation: dict[str, Any]) -> None:
        rows = score_table(evaluation)
        columns = shown_metrics(rows)
        with ui.element("div").style("overflow-x: auto"), ui.element("table").classes("scores"):
            with ui.element("thead"), ui.element("tr"):
                for name in (self.t("forecast.method"), *(f"{metric} ({part})" for part, metric in columns)):
                    with ui.element("th").props("scope=col"):
                        ui.label(name)
            with ui.element("tbody"):
                for row in rows:
                    with ui.element("tr").classes(row.kind):
                        with ui.element("td"):
                            ui.label(row.name)
                        for part, metric in columns:
                            with ui.element("td").classes("number"):
                                ui.label(shown_figure(metric, getattr(row, part)[metric]))


def page(studio: Studio) -> None:
    """Build the page."""
    ForecastPage(studio).build()
