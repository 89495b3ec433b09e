"""The form of the settings, made from the one table of them: names, help, units and ranges are those of the flags."""

from typing import Any

from nicegui import ui

from elman.config import Option
from elman.series.recent import READING
from elman.studio.layout import attribute
from elman.studio.texts import Translate
from elman.studio.training import options_of

FIRST = {
    "text": ("minutes", "steps", "cell", "hidden", "layers", "dropout", "seed"),
    "series": ("target", "time_column", "horizon", "minutes", "cell", "hidden", "split", "seed"),
}
"""What most people want to say; the rest is folded away."""


class SettingFields:
    """One field for each setting of a kind of training; what is left empty is chosen by the program."""

    def __init__(self, kind: str, t: Translate) -> None:
        self.kind, self.t = kind, t
        self.options = {option.name: option for option in options_of(kind)}
        self.fields: dict[str, Any] = {}

    @property
    def names(self) -> list[str]:
        """Of all settings."""
        return list(self.options)

    def build(self) -> None:
        """The first ones, and the others by group in folds."""
        t = self.t
        with ui.element("div").classes("model-picker").style("margin-top: .8rem"):
            for name in FIRST[self.kind]:
                self._field(self.options[name])
        with ui.expansion(t("train.more")).classes("w-full"):
            for group in ("network", "training", self.kind):
                title = {"network": t("train.network"), "training": t("train.training")}.get(group)
                ui.label(title or t(f"train.{group}_settings")).style("font-weight: 600; margin: .8rem 0 .4rem")
                with ui.element("div").classes("model-picker"):
                    for option in self.options.values():
                        if option.group == group and option.name not in FIRST[self.kind]:
                            self._field(option)

    def _field(self, option: Option) -> None:
        label = option.name.replace("_", " ")
        label += f" [{option.unit}]" if option.unit not in ("", option.name) else ""
        empty = self.t("train.chosen") if option.default is None else _words(option.default)
        if option.kind is bool:
            field: Any = ui.checkbox(label, value=bool(option.default))
        elif option.choices:
            choices = {"": empty, **{choice: choice for choice in option.choices}}
            field = ui.select(choices, value="", label=label).props("outlined dense stack-label")
        else:
            field = ui.input(label, placeholder=empty).props("outlined dense stack-label")
        if option.kind is not bool:
            field.props(f'hint="{attribute(option.help)}"')
        self.fields[option.name] = field

    def offer_columns(self, columns: list[str]) -> None:
        """Let the browser offer the names of columns."""
        self.fields["target"].set_autocomplete(columns)

    def values(self) -> dict[str, Any]:
        """What was given, in the settings' own types. Raises: `ConfigError` for what is not possible."""
        found = {}
        for name, field in self.fields.items():
            option = self.options[name]
            if option.kind is bool:
                if field.value != option.default:
                    found[name] = field.value
            elif field.value not in (None, ""):
                found[name] = option.check(_parsed(option, str(field.value)))
        return found

    def reading(self) -> dict[str, Any]:
        """What was given about how a table is read."""
        return {name: value for name, value in self.values().items() if name in READING or name == "target"}

    def show_problem(self, name: str, words: str) -> None:
        """Say beside a field what is wrong with it."""
        if self.options[name].kind is not bool:
            self.fields[name].props(f'error error-message="{attribute(words)}"')

    def clear_problems(self) -> None:
        """Take back what was said beside the fields."""
        for name, field in self.fields.items():
            if self.options[name].kind is not bool:
                field.props(remove="error error-message")


def _parsed(option: Option, text: str) -> Any:
    """A number where one is meant; what is none is left to the table, which says what it expects."""
    if option.many:
        return tuple(_number(option.kind, part.strip()) for part in text.split(",") if part.strip())
    return _number(option.kind, text.strip())


def _number(kind: type, text: str) -> Any:
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        return text


def _words(default: Any) -> str:
    return ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)
