"""The page Train: data, settings, start; and the trainings that were started, to watch, stop and go on with."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from nicegui import ui

from elman.config import Config
from elman.errors import ElmanError
from elman.series.cleaning.findings import moment
from elman.series.cleaning.inspection import inspect
from elman.series.presets import PRESETS as SERIES_PRESETS
from elman.series.reading.stations import table_available_offline, table_names
from elman.series.reading.tables import read_table
from elman.series.trainer import locate
from elman.studio.app import Studio
from elman.studio.layout import card, heading, subheading
from elman.studio.setting_fields import SettingFields
from elman.studio.training import MOST_UPLOADED, Started, Trainings, keep_upload, problem_of, reap
from elman.text.corpora import available_offline, corpus_names
from elman.text.presets import PRESETS as TEXT_PRESETS
from elman.training.progress import Reporter, printable
from elman.training.runs import default_run_path

FOLLOW_SECONDS = 1.0
STOPPED_SECONDS = 3.0
PRESETS = {"text": TEXT_PRESETS, "series": SERIES_PRESETS}


class TrainPage:
    """The form, and the list below it."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.t = studio, studio.t
        self.trainings = Trainings(studio.shared.runs, studio.shared.data_folder)
        self.kind = "text"
        self.shown: list[tuple] = []

    def build(self) -> None:
        """The form for a text; choosing a table changes it."""
        t = self.t
        heading(t("common.train"), t("train.lead"))
        with card():
            kinds = {"text": t("train.text"), "series": t("train.series")}
            switch = ui.toggle(kinds, value="text", on_change=self._switch).props("no-caps unelevated spread")
            switch.props(f'aria-label="{t("train.kind")}" role="group"')
            self.form = ui.element("div").style("margin-top: 1rem")
            with ui.element("div").classes("studio-row").style("margin-top: 1rem"):
                ui.button(t("train.start"), on_click=self._start).props("unelevated no-caps")
                self.problem = ui.label().classes("problem").props("role=alert")
        with card():
            subheading(t("train.started"))
            self.list = ui.element("div").style("min-height: 4rem")
        with card():
            subheading(t("train.resumable"))
            with ui.element("div").classes("studio-row"):
                self.stopped = ui.select([], label=t("train.name")).props("outlined dense").style("min-width: 16rem")
                ui.button(t("train.resume"), on_click=self._resume_chosen).props("outline no-caps")
        self._build_form()
        ui.timer(FOLLOW_SECONDS, self._follow)
        ui.timer(STOPPED_SECONDS, self._offer_stopped)
        ui.timer(0, self._fill, once=True)
        ui.timer(0, self._follow, once=True)

    def _switch(self, event: Any) -> None:
        self.kind = event.value
        self._build_form()
        ui.timer(0, self._fill, once=True)

    def _build_form(self) -> None:
        t = self.t
        self.problem.text = ""
        self.form.clear()
        with self.form:
            with ui.element("div").classes("model-picker"):
                self.at_hand = ui.select({}, label=t("train.at_hand"), clearable=True, on_change=self._chosen).props(
                    "outlined dense"
                )
                self.path = ui.input(t("train.path"), on_change=self._chosen).props("outlined dense dir=ltr")
                upload = ui.upload(
                    label=t("train.upload"),
                    auto_upload=True,
                    max_file_size=MOST_UPLOADED,
                    on_upload=self._uploaded,
                    on_rejected=lambda: self._say(t("train.rejected")),
                )
                upload.props("flat bordered").classes("w-full")
            if self.kind == "series":
                ui.button(t("train.describe"), on_click=self._describe).props("outline no-caps").style(
                    "margin-top: .8rem"
                )
                self.report = ui.element("div")
            self.fields = SettingFields(self.kind, t)
            self.fields.build()
            with ui.element("div").classes("model-picker").style("margin-top: .8rem"):
                self.name = ui.input(t("train.name")).props("outlined dense")
                presets = {"": t("train.none"), **{name: name for name in PRESETS[self.kind]}}
                self.preset = ui.select(presets, value="", label=t("train.preset")).props("outlined dense")

    async def _fill(self) -> None:
        """What is at hand without a network."""
        folder = self.studio.shared.data_folder
        names, there = (
            (corpus_names(), available_offline) if self.kind == "text" else (table_names(), table_available_offline)
        )
        found = await self.studio.read(lambda: [name for name in names if there(name, data_folder=folder)])
        self.at_hand.set_options(found)

    def _source(self) -> str:
        return str(self.path.value or self.at_hand.value or "")

    def _chosen(self) -> None:
        source = self._source()
        if source:
            stem = Path(source.rstrip("/")).name.split(".")[0]
            self.name.value = default_run_path("".join(c if c.isalnum() or c in "-_" else "-" for c in stem)[:40]).name

    async def _uploaded(self, event: Any) -> None:
        try:
            path = await keep_upload(self.trainings, event.file)
        except ElmanError as error:
            self._say(str(error))
            return
        self.path.value = str(path)
        self._say(self.t("train.uploaded", name=path.name))

    def _say(self, words: str) -> None:
        self.problem.text = " ".join(words.split())

    async def _describe(self) -> None:
        """Read the table, say what is in it, and offer its columns."""
        self._say("")
        try:
            found = await self.studio.compute(self._look_at_table, self._source())
        except ElmanError as error:
            self._say(str(error))
            return
        report, columns = found
        self.fields.offer_columns(columns)
        self.report.clear()
        with self.report, card():
            subheading(self.t("train.report"))
            ui.label(
                f"{report.rows:,} × {len(columns)} · {report.step} · {moment(report.first)} – {moment(report.last)}"
            ).props("dir=ltr")
            ui.label(" · ".join(printable(name) for name in columns)).classes("mono small").style(
                "overflow-wrap: anywhere"
            )
            for finding in report.findings[:12]:
                ui.label(f"· {printable(finding.sentence)}").classes("soft").props("dir=auto")

    def _look_at_table(self, source: str) -> tuple[Any, list[str]]:
        settings = Config().replace(**self.fields.reading()).series
        found, _ = locate(source, self.studio.shared.data_folder, Reporter())
        table = read_table(found, settings)
        report = inspect(table, settings)
        return report, [facts.name for facts in report.columns]

    async def _start(self) -> None:
        self._say("")
        self.fields.clear_problems()
        try:
            settings = self.fields.values()
            name = self.name.value or default_run_path("run").name
            await self.studio.read(
                self.trainings.start, self.kind, self._source(), name, settings, self.preset.value or ""
            )
        except ElmanError as error:
            about = problem_of(error, self.fields.names)
            if about:
                self.fields.show_problem(about, str(error))
            self._say(str(error))
            return
        self._chosen()
        await self._follow()

    async def _follow(self) -> None:
        """The list, where it changed."""
        reap()
        facts = await self.studio.read(lambda: [(one, one.alive, one.said()) for one in self.trainings.all()[:10]])
        if facts == self.shown and self.list.default_slot.children:
            return
        self.shown = facts
        self.list.clear()
        with self.list:
            if not facts:
                ui.label(self.t("train.nothing")).classes("soft")
            for started, alive, said in facts:
                self._row(started, alive, said)

    def _row(self, started: Started, alive: bool, said: list[str]) -> None:
        t = self.t
        with ui.element("div").style("border-bottom: 1px solid var(--grid); padding: .6rem 0"):
            with ui.element("div").classes("studio-row"):
                ui.label(started.name).style("font-weight: 600").props("dir=ltr")
                ui.label(t("train.running" if alive else "train.over")).classes(f"state {'training' if alive else ''}")
                ui.link(t("train.watch"), f"/?run={quote(started.name, safe='')}")
                if alive:
                    ui.button(t("train.stop"), on_click=lambda: self._stop(started.name)).props("outline dense no-caps")
                else:
                    ui.button(t("train.resume"), on_click=lambda: self._resume(started.name)).props(
                        "outline dense no-caps"
                    )
            with ui.element("pre").classes("sample").props("dir=ltr").style("height: 7.2rem; font-size: .85rem"):
                ui.label("\n".join(said[-5:])).style("display: inline")

    async def _stop(self, name: str) -> None:
        await self.studio.read(self.trainings.stop, name)
        await self._follow()

    async def _offer_stopped(self) -> None:
        """Runs of the folder that were stopped and that nobody trains, whoever began them."""
        runs = await self.studio.read(self.studio.shared.index.runs)
        names = [run.name for run in runs if run.kind and run.state == "stopped"]
        if names != self.stopped.options:
            self.stopped.set_options(names)

    async def _resume_chosen(self) -> None:
        if self.stopped.value:
            await self._resume(self.stopped.value)

    async def _resume(self, name: str) -> None:
        try:
            await self.studio.read(self.trainings.resume, name)
        except ElmanError as error:
            self._say(str(error))
        await self._follow()


def page(studio: Studio) -> None:
    """Build the page."""
    TrainPage(studio).build()
