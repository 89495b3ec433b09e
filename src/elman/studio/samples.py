"""The timeline of samples: scrub from noise to sentences (lecture L11)."""

from nicegui import ui

from elman.studio.app import Studio
from elman.studio.runs_index import WatchedRun
from elman.studio.texts import in_time
from elman.training.progress import printable

PLAY_SECONDS = 0.7
MOST_CHARACTERS = 20_000


class SampleTimeline:
    """A slider over all samples of a run, with the text of the one it stands at; it follows a run that goes on."""

    def __init__(self, studio: Studio, run: WatchedRun) -> None:
        self.t, self.language, self.run = studio.t, studio.language, run
        self.place = max(0, len(run.samples) - 1)

    def build(self) -> None:
        """The controls; the text keeps its height whatever it holds."""
        t = self.t
        with ui.element("div").classes("scrub"):
            self.button = (
                ui.button(t("runs.play"), on_click=self._play).props("outline no-caps").style("min-width: 6rem")
            )
            last = max(1, len(self.run.samples) - 1)
            self.slider = ui.slider(
                min=0, max=last, value=self.place, on_change=lambda event: self._show(int(event.value))
            )
            self.slider.props(f'aria-label="{t("runs.which_sample")}"')
        with ui.element("div").classes("studio-row"):
            self.at = ui.label().style("font-weight: 700; color: var(--mark)")
            self.loss, self.elapsed = ui.label(), ui.label().classes("soft")
        self.text = ui.element("pre").classes("sample").props("dir=auto tabindex=0")
        with self.text:
            self.words = ui.label().style("display: inline")
        ui.label(t("runs.samples_hint")).classes("soft small")
        self.timer = ui.timer(PLAY_SECONDS, self._next, active=False)
        self.known = -1
        self.follow()

    def follow(self) -> None:
        """Take up what the run wrote since; who looked at the newest sample goes on looking at the newest."""
        count = len(self.run.samples)
        if count == self.known:
            return
        newest = self.known <= 0 or self.place >= self.known - 1
        self.known = count
        self.slider.props(f"max={max(1, count - 1)}")
        self.slider.set_enabled(count > 1)
        self.button.set_enabled(count > 1)
        if newest:
            self.place = max(0, count - 1)
            self.slider.value = self.place
        self._show(self.place)

    def _show(self, place: int) -> None:
        if not self.run.samples:
            self.words.text = self.t("runs.no_samples")
            return
        self.place = min(place, len(self.run.samples) - 1)
        sample = self.run.samples[self.place]
        self.at.text = self.t("runs.sample_at", number=sample.iteration)
        found = sample.validation
        self.loss.text = "" if found is None else self.t("runs.sample_loss", loss=float(f"{found:.3f}"))
        self.elapsed.text = in_time(sample.elapsed, self.language) if isinstance(sample.elapsed, int | float) else ""
        self.words.text = printable(sample.text[:MOST_CHARACTERS])

    def _play(self) -> None:
        self.timer.active = not self.timer.active
        if self.timer.active and self.place >= len(self.run.samples) - 1:
            self.slider.value = 0
        self.button.text = self.t("runs.pause" if self.timer.active else "runs.play")

    def _next(self) -> None:
        if self.place < len(self.run.samples) - 1:
            self.slider.value = self.place + 1
        else:
            self._play()
