"""Settings: frozen dataclasses, and the one table that everything else about them comes from.

Each field below carries its default, its help, its unit and its range. The command line's flags, the TOML file of a run and
`docs/settings.md` are all made from that (`options()`); none of them is written by hand. An unknown name or an impossible value
is a `ConfigError` that names the key, the value and, where one is near, the key that was probably meant.

    >>> from elman.config import Config
    >>> Config().replace(hidden=64, cell="lstm").network.hidden
    64
    >>> Config().replace(hiden=64)
    Traceback (most recent call last):
    elman.errors.ConfigError: unknown setting 'hiden': did you mean 'hidden'?
"""

import dataclasses
import difflib
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tomli_w

from elman.errors import ConfigError


def _option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    metadata = {"help": help, "unit": unit, "minimum": minimum, "maximum": maximum, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class NetworkSettings:
    """What the network is. A value of None is chosen from the data and the budget when training starts."""

    cell: str = _option("gru", "the recurrent cell", choices=("elman", "gru", "lstm"))
    activation: str = _option("tanh", "the Elman cell's squashing function", choices=("tanh", "relu"))
    hidden: int | None = _option(None, "size of the hidden state of each layer", unit="units", minimum=1, maximum=65536)
    layers: int = _option(1, "recurrent layers, one on top of the other", minimum=1, maximum=64)
    dropout: float | None = _option(None, "share of a layer's outputs dropped on the way up", minimum=0, maximum=0.95)
    input_dropout: float | None = _option(
        None,
        "share of the measurements dropped on the way in, the same ones at every step",
        minimum=0,
        maximum=0.95,
    )
    recurrent_dropout: float | None = _option(
        None,
        "share of the state dropped on the way to the next step, the same units at every step",
        minimum=0,
        maximum=0.95,
    )
    layer_norm: bool = _option(False, "normalise what each layer hands upwards")
    residual: bool = _option(False, "add each upper layer's input to its output")
    initialization: str = _option(
        "orthogonal",
        "starting weights: orthogonal recurrences, or N(0, 1) · 0.01 as in the classic minimal program",
        choices=("orthogonal", "normal"),
    )


@dataclass(frozen=True)
class TrainingSettings:
    """How the network learns. A value of None is chosen from the data and the budget when training starts."""

    minutes: float | None = _option(
        None, "budget in wall-clock minutes (3 when no budget is given)", unit="minutes", minimum=0.01, maximum=1e6
    )
    steps: int | None = _option(None, "budget in updates", unit="updates", minimum=1, maximum=10**12)
    epochs: float | None = _option(
        None, "budget in passes over the training part", unit="passes", minimum=1e-6, maximum=1e9
    )
    batch: int | None = _option(
        None,
        "sequences per update; for text, the streams read side by side",
        unit="sequences",
        minimum=1,
        maximum=65536,
    )
    unroll: int | None = _option(
        None,
        "steps of each sequence per update, through which gradients flow back",
        unit="steps",
        minimum=1,
        maximum=65536,
    )
    optimizer: str | None = _option(None, "the update rule", choices=("muon", "adamw", "adagrad", "sgd"))
    learning_rate: float | None = _option(None, "the highest learning rate", minimum=1e-12, maximum=1e3)
    schedule: str = _option(
        "cosine", "how the learning rate falls over the budget", choices=("cosine", "linear", "constant")
    )
    warmup: float = _option(0.02, "share of the budget over which the learning rate rises", minimum=0, maximum=0.9)
    final_rate: float = _option(0.0, "learning rate at the end, as a share of the highest", minimum=0, maximum=1)
    momentum: float = _option(
        0.9, "momentum of sgd; decay of the first moment of adamw and of muon's vectors", minimum=0, maximum=0.9999
    )
    second_moment: float = _option(
        0.99, "decay of the second moment of adamw and of muon's vectors", minimum=0, maximum=0.999999
    )
    weight_decay: float = _option(
        0.1, "pull of the matrices towards zero, per unit of learning rate (muon, adamw)", minimum=0, maximum=10
    )
    clip_norm: float = _option(1.0, "largest norm of the whole gradient; 0: no limit", minimum=0, maximum=1e9)
    clip_value: float = _option(0.0, "largest size of any one gradient; 0: no limit", minimum=0, maximum=1e9)
    average: float | None = _option(
        None,
        "decay of the running mean of the weights that is validated and saved; 0: the weights themselves",
        minimum=0,
        maximum=0.99999,
    )
    reduction: str = _option(
        "mean", "the loss of an update: mean over its steps and sequences, or their sum", choices=("mean", "sum")
    )
    block: int | None = _option(None, "updates compiled into one call", unit="updates", minimum=1, maximum=100000)
    validate_every: int | None = _option(
        None, "updates between validations; 0: only at the end", unit="updates", minimum=0
    )
    sample_every: int | None = _option(
        None,
        "updates between samples; 0: none; None: at 100, 300, 700, 2000 and on from there",
        unit="updates",
        minimum=0,
    )
    checkpoint_every: int | None = _option(None, "updates between checkpoints", unit="updates", minimum=1)
    patience: int = _option(
        0, "stop after this many validations without a better one; 0: never", minimum=0, maximum=10**6
    )
    seed: int = _option(
        0, "seed of the weights, of the order of the data and of the samples", minimum=0, maximum=2**32 - 1
    )
    dtype: str = _option("float32", "precision of weights and arithmetic", choices=("float32", "float64"))


@dataclass(frozen=True)
class TextSettings:
    """How text becomes numbers and is walked through."""

    unit: str = _option("character", "what one symbol is", choices=("character", "byte"))
    normal_form: str = _option(
        "NFC", "Unicode normal form of characters", choices=("NFC", "NFD", "NFKC", "NFKD", "none")
    )
    encoding: str = _option("utf-8", "encoding of the input")
    errors: str = _option(
        "strict",
        "bytes that the encoding forbids: refuse, replace or leave out",
        choices=("strict", "replace", "ignore"),
    )
    validation: float = _option(0.1, "share of the text, at its end, held out for validation", minimum=0, maximum=0.9)
    stream_length: int = _option(
        0, "symbols a stream reads before its state starts afresh; 0: to the end of the text", unit="symbols", minimum=0
    )
    restart: str = _option(
        "continue",
        "where a stream goes on when its length is up: where it is, or a random place",
        choices=("continue", "random"),
    )
    sample_length: int = _option(
        300, "symbols in each sample taken while training", unit="symbols", minimum=1, maximum=100000
    )


@dataclass(frozen=True)
class SeriesSettings:
    """What is forecast from which columns of a table, how far ahead, and how the rows are walked through."""

    target: str | None = _option(None, "column that is forecast")
    time_column: str | None = _option(None, "column with the times")
    series_column: str | None = _option(None, "column that tells one series from another, in the long format")
    query: str | None = _option(None, "SQL query whose rows are the table, where the input is a database's URI")
    inputs: tuple[str, ...] = _option((), "measured columns the network sees; none given: all numeric ones")
    known: tuple[str, ...] = _option((), "columns whose future is known when a forecast is made, such as holidays")
    static: tuple[str, ...] = _option((), "columns that say what a series is and never change along it")
    horizon: str = _option("24h", "how far ahead: a duration such as 24h or 30min, or a number of rows")
    path: bool = _option(False, "forecast every row up to the horizon, not only the one there")
    lookback: str | None = _option(None, "how far back the network looks: a duration or a number of rows")
    every: str | None = _option(None, "step from one row that is looked at to the next: a duration or a number of rows")
    method: str = _option(
        "streams",
        "walk the series with carried state and forecast at every step, or give each forecast its own window and a zero state",
        choices=("streams", "windows"),
    )
    forecast: str = _option(
        "quantiles",
        "what is forecast: quantiles that never cross, the median (absolute error) or the mean (squared error)",
        choices=("quantiles", "median", "mean"),
    )
    levels: tuple[float, ...] = _option(
        (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
        "levels of the quantiles; the outermost pair is the interval that is scored",
        minimum=0.001,
        maximum=0.999,
    )
    split: str = _option("70/15/15", "percent of the time for training / validation / test, in this order")
    calendar: tuple[str, ...] = _option(
        ("auto",),
        "circles of the calendar the network sees: auto takes those that the step and the span allow",
        choices=("auto", "none", "hour", "weekday", "year"),
    )
    refit: bool = _option(
        False,
        "when the best weights are chosen, train once more on training and validation together, for as many passes",
    )
    members: int = _option(1, "networks trained side by side whose forecasts are averaged", minimum=1, maximum=64)
    time_format: str | None = _option(None, "format of the times, such as %d.%m.%Y %H:%M; not given: found out")
    time_zone: str | None = _option(None, "time zone in which the times are written, such as Europe/Berlin")
    decimal: str = _option("auto", "decimal sign of numbers in text files", choices=("auto", "point", "comma"))
    step: str | None = _option(None, "time from row to row; not given: the most frequent one")
    refuse: tuple[str, ...] = _option(
        (),
        "repairs that are not wanted: sentinels stay as they are; rows out of order, repeated, or gaps stop the program",
        choices=("sentinels", "order", "repeats", "gaps"),
    )


@dataclass(frozen=True)
class Option:
    """One row of the table of settings. A `many` option holds a tuple of values of its kind."""

    name: str
    group: str
    kind: type
    default: Any
    help: str
    unit: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    optional: bool
    many: bool = False

    @property
    def flag(self) -> str:
        """The command line's spelling: `--learning-rate`."""
        return "--" + self.name.replace("_", "-")

    def check(self, value: Any) -> Any:
        """Return `value` in the option's type, or raise `ConfigError` with what is allowed."""
        if value is None:
            if self.optional:
                return None
            raise ConfigError(f"{self.name} needs a value: {self.allowed()}")
        if self.many:
            if isinstance(value, str) or not isinstance(value, Iterable):
                raise ConfigError(f"{self.name} = {value!r} is not possible: a list is expected, each {self.allowed()}")
            return tuple(self._check_one(item) for item in value)
        return self._check_one(value)

    def _check_one(self, value: Any) -> Any:
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value) if abs(value) < 2**1000 else math.inf
        if type(value) is not self.kind or (isinstance(value, float) and not math.isfinite(value)):
            raise ConfigError(f"{self.name} = {value!r} is not possible: {self.allowed()}")
        if self.choices and value not in self.choices:
            raise ConfigError(
                f"{self.name} = {value!r} is not possible: {self.allowed()}{suggestion(value, self.choices)}"
            )
        number: Any = value
        too_small = self.minimum is not None and number < self.minimum
        too_large = self.maximum is not None and number > self.maximum
        if too_small or too_large:
            raise ConfigError(f"{self.name} = {value!r} is out of range: {self.allowed()}")
        return value

    def allowed(self) -> str:
        """What may stand here, in words: "an integer from 1 to 64", "one of elman, gru, lstm"."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind is bool:
            return "true or false"
        if self.kind is str:
            return "text"
        noun = {int: "an integer", float: "a number"}[self.kind]
        if self.minimum is not None and self.maximum is not None:
            return f"{noun} from {self.minimum:g} to {self.maximum:g}"
        return f"{noun} of at least {self.minimum:g}" if self.minimum is not None else noun


GROUPS: dict[str, type] = {
    "network": NetworkSettings,
    "training": TrainingSettings,
    "text": TextSettings,
    "series": SeriesSettings,
}

TASKS = ("text", "series")
"""The groups that belong to one task only."""


def options() -> tuple[Option, ...]:
    """The table of all settings, in the order in which they are declared."""
    return tuple(_TABLE.values())


def suggestion(name: Any, known: Iterable[str]) -> str:
    """`": did you mean 'hidden'?"` where a known name is near, else nothing."""
    near = difflib.get_close_matches(str(name)[:100], list(known), n=1, cutoff=0.6)
    return f": did you mean {near[0]!r}?" if near else ""


@dataclass(frozen=True)
class Config:
    """All settings of one run.

    `replace(name=value, …)` gives a changed copy and checks every value; names are unique over the groups, so no group is named.
    """

    network: NetworkSettings = NetworkSettings()
    training: TrainingSettings = TrainingSettings()
    text: TextSettings = TextSettings()
    series: SeriesSettings = SeriesSettings()

    def replace(self, **changes: Any) -> "Config":
        """Return a copy with the named settings changed.

        Raises: `ConfigError` for an unknown name, an impossible value, or more than one kind of budget.
        """
        by_group: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
        for name, value in changes.items():
            if name not in _TABLE:
                raise ConfigError(f"unknown setting {name!r}{suggestion(name, _TABLE)}")
            by_group[_TABLE[name].group][name] = _TABLE[name].check(value)
        groups = {
            group: dataclasses.replace(getattr(self, group), **values) for group, values in by_group.items() if values
        }
        changed = dataclasses.replace(self, **groups)
        budgets = [name for name in ("minutes", "steps", "epochs") if getattr(changed.training, name) is not None]
        if len(budgets) > 1:
            raise ConfigError(f"a run has one budget, not {len(budgets)}: give one of {', '.join(budgets)}")
        return changed

    def to_dict(self, task: str | None = None) -> dict[str, dict[str, Any]]:
        """The settings as nested dictionaries of plain values; those that are None are left out.

        task: "text" or "series" leaves out the group of the other.
        """
        nested = dataclasses.asdict(self)
        return {
            group: {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if v is not None}
            for group, values in nested.items()
            if task is None or group == task or group not in TASKS
        }

    @classmethod
    def from_dict(cls, nested: Mapping[str, Any]) -> "Config":
        """The reverse of `to_dict`. Raises `ConfigError` for anything that is no known setting."""
        changes: dict[str, Any] = {}
        for group, values in nested.items():
            if group not in GROUPS:
                raise ConfigError(f"unknown group of settings {group!r}{suggestion(group, GROUPS)}")
            if not isinstance(values, Mapping):
                raise ConfigError(f"[{group}] = {values!r} is not possible: a table of settings is expected")
            for name, value in values.items():
                if name not in _TABLE or _TABLE[name].group != group:
                    here = [option.name for option in options() if option.group == group]
                    raise ConfigError(f"unknown setting {name!r} in [{group}]{suggestion(name, here)}")
                changes[name] = value
        return cls().replace(**changes)


_DOTS_AT_MOST = 1000


def to_toml(tables: Mapping[str, Any]) -> str:
    """Write nested dictionaries as TOML."""
    return tomli_w.dumps(dict(tables))


def from_toml(text: str, source: str) -> dict[str, Any]:
    """Read TOML; `source` names the file in the error.

    Raises: `ConfigError` with line and column where the text is not TOML, or holds an integer of more than 64 bits.
    """
    # A key of many parts takes Python's reader time that grows with the square of their number.
    if any(line.count(".") > _DOTS_AT_MOST for line in text.splitlines()):
        raise ConfigError(f"{source} is refused: a line in it has more than {_DOTS_AT_MOST} dots, which no setting has")
    try:
        tables = tomllib.loads(text)
    except ValueError as error:  # a number of thousands of digits too, which is Python's own limit
        raise ConfigError(f"{source} is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{source} is not valid TOML: its tables are nested too deeply") from None
    waiting: list[Any] = [tables]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ConfigError(
                f"{source} is not valid TOML: it holds an integer of {value.bit_length()} bits, more than 64"
            )
    return tables


def _build_table() -> dict[str, Option]:
    table: dict[str, Option] = {}
    for group, settings in GROUPS.items():
        hints = typing.get_type_hints(settings)
        for declared in dataclasses.fields(settings):
            hint = hints[declared.name]
            optional = isinstance(hint, types.UnionType)
            kind = next(k for k in typing.get_args(hint) if k is not type(None)) if optional else hint
            many = typing.get_origin(kind) is tuple
            kind = typing.get_args(kind)[0] if many else kind
            if declared.name in table:
                raise TypeError(f"setting {declared.name!r} is declared in two groups")
            table[declared.name] = Option(
                name=declared.name,
                group=group,
                kind=kind,
                default=declared.default,
                optional=optional,
                many=many,
                **declared.metadata,
            )
    return table


_TABLE = _build_table()
