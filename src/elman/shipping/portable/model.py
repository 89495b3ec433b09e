"""A trained recurrent network on NumPy alone; beside this file stand `model.json` (what it is) and `weights.npz` (its numbers).

    python model.py --prime "Once" --length 300 --temperature 0.8        a model of text writes
    python model.py rows.csv                                            a forecaster continues the rows

or from Python: `load(folder)` gives a `Text` with `sample` and `step`, or a `Forecaster` with `forecast` and `read_csv`.

One step of a layer, from x and its state h (and c for an LSTM):

    elman   h' = f(x W_x + h W_h + b)                                    f: tanh or relu
    gru     r, z = sigmoid(...);  n = tanh(x W_n + b_n + r (h U_n + u_n));  h' = (1 - z) n + z h
    lstm    i, f, g, o;  c' = sigmoid(f) c + sigmoid(i) tanh(g);  h' = sigmoid(o) tanh(c')
"""

import argparse
import codecs
import csv
import datetime
import json
import math
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

DAY = 86_400_000_000
"""Microseconds in a day."""

OLDEST = 255
"""The age, in rows, of what was never seen."""

DOTTED = re.compile(r"^(\d\d)\.(\d\d)\.(\d{4})")
"""A date with its day first."""


class Network:
    """Members of equal shape, each a stack of layers with a head; what several say is averaged.

    A state is an array `[members, layers, carry]`: h, and c behind it for an LSTM.
    """

    def __init__(self, facts: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> None:
        self.facts, self.weights = facts, {name: weights[name] for name in weights}
        self.members, self.layers, self.hidden = facts["members"], facts["layers"], facts["hidden"]

    def initial_state(self) -> np.ndarray:
        """Zeros."""
        width = self.hidden * (2 if self.facts["cell"] == "lstm" else 1)
        return np.zeros((self.members, self.layers, width), self.weights["0.head.weight"].dtype)

    def step(self, x: "int | np.ndarray", state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One step. x: a symbol's number, or the input values. Returns what the head says, and the new state."""
        after, said = np.empty_like(state), []
        for member in range(self.members):
            below: Any = x
            for layer in range(self.layers):
                carry = self._cell(f"{member}.{layer}.", below, state[member, layer])
                after[member, layer], hidden = carry, carry[: self.hidden]
                if self.facts["layer_norm"]:
                    hidden = self._normalized(f"{member}.{layer}.", hidden)
                below = hidden + below if self.facts["residual"] and layer else hidden
            said.append(self._head(below @ self.weights[f"{member}.head.weight"] + self.weights[f"{member}.head.bias"]))
        return np.mean(said, axis=0), after

    def _cell(self, place: str, x: Any, carry: np.ndarray) -> np.ndarray:
        weights, size = self.weights, self.hidden
        table = weights[place + "weight_inputs"]
        projected = (table[x] if isinstance(x, int) else x @ table) + weights[place + "bias"]
        recurrent = carry[:size] @ weights[place + "weight_hidden"]
        if self.facts["cell"] == "elman":
            summed = projected + recurrent
            return np.maximum(summed, 0) if self.facts["activation"] == "relu" else np.tanh(summed)
        if self.facts["cell"] == "gru":
            recurrent = recurrent + weights[place + "bias_hidden"]
            reset, keep = np.split(sigmoid(projected[: 2 * size] + recurrent[: 2 * size]), 2)
            candidate = np.tanh(projected[2 * size :] + reset * recurrent[2 * size :])
            return candidate + keep * (carry - candidate)
        inward, forget, candidate, outward = np.split(projected + recurrent, 4)
        memory = sigmoid(forget) * carry[size:] + sigmoid(inward) * np.tanh(candidate)
        return np.concatenate([sigmoid(outward) * np.tanh(memory), memory])

    def _normalized(self, place: str, hidden: np.ndarray) -> np.ndarray:
        centered = hidden - hidden.mean()
        scale = self.weights[place + "norm_scale"] / np.sqrt((centered * centered).mean() + 1e-5)
        return centered * scale + self.weights[place + "norm_shift"]

    def _head(self, raw: np.ndarray) -> np.ndarray:
        """Logits; or numbers `[ahead, levels]`, rising along the levels."""
        if self.facts["head"] == "categorical":
            return raw
        raw, middle = raw.reshape(-1, len(self.facts["levels"])), self.facts["middle"]
        center, steps = raw[:, middle : middle + 1], np.logaddexp(0, raw)
        above = center + np.cumsum(steps[:, middle + 1 :], axis=1)
        below = center - np.cumsum(steps[:, :middle][:, ::-1], axis=1)[:, ::-1]
        return np.concatenate([below, center, above], axis=1)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 * np.tanh(0.5 * x) + 0.5


class Text:
    """A model of text: symbols are characters, or bytes of UTF-8."""

    def __init__(self, facts: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> None:
        self.network, self.facts = Network(facts, weights), facts
        self.unit, self.values = facts["vocabulary"]["unit"], facts["vocabulary"]["values"]
        self._numbers = {value: number for number, value in enumerate(self.values)}

    def encode(self, text: str) -> list[int]:
        """The numbers of the symbols of `text`; what the model does not know is left out."""
        if self.unit == "byte":
            return [self._numbers[value] for value in text.encode() if value in self._numbers]
        form = self.facts["vocabulary"]["normal_form"]
        text = text if form == "none" else unicodedata.normalize(form, text)
        return [self._numbers[ord(character)] for character in text if ord(character) in self._numbers]

    def stream(
        self, prime: str = "", *, length: int = 500, temperature: float = 1.0, seed: int | None = None
    ) -> Iterator[str]:
        """The text that goes on from `prime`, piece by piece. temperature: 0 takes the likeliest symbol."""
        generator, state = np.random.default_rng(seed), self.network.initial_state()
        numbers = self.encode(prime) or self.encode("\n") or [0]
        for number in numbers:
            logits, state = self.network.step(number, state)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for _ in range(length):
            number = draw(logits, temperature, generator.random())
            yield chr(self.values[number]) if self.unit == "character" else decoder.decode(bytes([self.values[number]]))
            logits, state = self.network.step(number, state)

    def sample(self, prime: str = "", **options: Any) -> str:
        """`stream` as one string."""
        return "".join(self.stream(prime, **options))


def draw(logits: np.ndarray, temperature: float, uniform: float) -> int:
    """The symbol at which the cumulative softmax passes `uniform`."""
    if temperature == 0:
        return int(logits.argmax())
    weights = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    sums = np.cumsum(weights)
    return min(int(np.searchsorted(sums, uniform * sums[-1], side="right")), len(logits) - 1)


class Forecaster:
    """A model of measurements. Rows stand on a regular grid, `step` apart; what is missing is NaN."""

    def __init__(self, facts: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> None:
        self.network, self.facts = Network(facts, weights), facts
        self.columns, self.known = facts["columns"], facts["known"]
        self._center, self._scale = np.asarray(facts["center"]), np.asarray(facts["scale"])

    def forecast(self, times: np.ndarray, values: np.ndarray, *, series: str = "", static: Any = ()) -> np.ndarray:
        """Quantiles `[horizon, levels]` in the target's unit, behind the last row that holds a measurement.

        times: microseconds since 1970 (UTC where the model knows a time zone) `[rows]`; values: `[rows, columns]`; rows behind
        the last measured one tell the columns whose future is known. static: the numbers that say what the series is.
        """
        values = np.asarray(values, np.float64)
        count = self._count(values)
        center, scale = self._scales(values[:count], series)
        inputs, anchors = self._inputs(np.asarray(times), values, count, center, scale, static)
        state, said = self.network.initial_state(), np.zeros(0)
        for row in self._walked(count):
            said, state = self.network.step(inputs[row], state)
        said = said + anchors[count - 1]
        said = said[[self.facts["ahead"].index(row) for row in self.facts["horizon"]]].astype(np.float64)
        target = self.columns.index(self.facts["target"])
        return self._calibrated(said) * scale[target] + center[target]

    def _count(self, values: np.ndarray) -> int:
        """Rows up to the last with a measurement of a column whose future is not known."""
        measured = [c for c, name in enumerate(self.columns) if name not in self.known]
        there = np.flatnonzero(~np.isnan(values[:, measured]).all(axis=1))
        if not len(there) or np.isnan(values[:, self.columns.index(self.facts["target"])]).all():
            raise ValueError(f"no row has a value of {self.facts['target']!r}: there is nothing to forecast from")
        return int(there[-1]) + 1

    def _walked(self, count: int) -> range:
        """The rows that the network sees: every so many, up to the last."""
        first = 0 if self.facts["window"] is None else max(0, count - self.facts["window"])
        every = self.facts["every"]
        return range(first + (count - 1 - first) % every, count, every)

    def _scales(self, values: np.ndarray, series: str) -> tuple[np.ndarray, np.ndarray]:
        """Center and scale of each column; a series that was not there in training is measured by its own rows."""
        if series in self.facts["names"]:
            number = self.facts["names"].index(series)
            return self._center[number], self._scale[number]
        center, scale = np.zeros(len(self.columns)), np.full(len(self.columns), 1e30)
        for c, name in enumerate(self.columns):
            seen = values[~np.isnan(values[:, c]), c].astype(np.float32).astype(np.float64)
            if name in self.facts["directions"]:
                center[c], scale[c] = 0.0, 180 / math.pi
            elif len(seen):
                center[c], spread = seen.mean(), seen.std()
                size = abs(center[c]) or 1.0
                scale[c] = spread if spread > 1e-6 * size else size
        return center, scale

    def _inputs(
        self, times: np.ndarray, values: np.ndarray, count: int, center: np.ndarray, scale: np.ndarray, static: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the network sees of each row, and the target's last value at each."""
        facts, rows = self.facts, len(values)
        observed = ~np.isnan(values).all(axis=1)
        scaled = ((values.astype(np.float32).astype(np.float64) - center) / scale).astype(np.float32)
        filled, ages = np.zeros_like(scaled), np.zeros((rows, len(self.columns)), int)
        last, age = np.zeros(len(self.columns), np.float32), np.full(len(self.columns), OLDEST)
        row_ages, row_age = np.zeros(rows, int), OLDEST
        for row in range(rows):
            seen = ~np.isnan(scaled[row])
            last, age = np.where(seen, scaled[row], last), np.where(seen, 0, np.minimum(age + 1, OLDEST))
            row_age = 0 if observed[row] else min(row_age + 1, OLDEST)
            filled[row], ages[row], row_ages[row] = last, age, row_age
        circular = [self.columns.index(name) for name in facts["directions"]]
        plain = [c for c in range(len(self.columns)) if c not in circular]
        masked = [self.columns.index(name) for name in facts["masked"]]
        turns = 2 * math.pi * phases(self._local(times), facts["circles"])
        spread = (np.asarray(static, np.float64) - facts["static_center"]) / facts["static_scale"]
        known = [self.columns.index(name) for name in self.known]
        index = np.arange(count)
        ahead = [filled[np.minimum(index + offset, rows - 1)][:, known] for offset in facts["ahead"] if known]
        index_free = [
            filled[:, plain], np.sin(filled[:, circular]), np.cos(filled[:, circular]),
            np.log1p(row_ages[:, None]) / math.log1p(OLDEST), ages[:, masked] == 0,
            np.log1p(ages[:, masked]) / math.log1p(OLDEST), np.sin(turns), np.cos(turns),
        ]  # fmt: skip
        parts = [part[:count] for part in index_free] + ahead + [np.tile(spread, (count, 1))]
        inputs = np.concatenate(parts, axis=1).astype(self.network.weights["0.head.weight"].dtype)
        return inputs, filled[:, self.columns.index(facts["target"])]

    def _local(self, times: np.ndarray) -> np.ndarray:
        """What the clock on the wall shows."""
        if self.facts["time_zone"] is None:
            return times
        zone = ZoneInfo(self.facts["time_zone"])
        moments = (datetime.datetime.fromtimestamp(int(time) // 1_000_000, zone) for time in times)
        return times + np.asarray([round(m.utcoffset().total_seconds()) * 1_000_000 for m in moments])  # type: ignore[union-attr]

    def _calibrated(self, said: np.ndarray) -> np.ndarray:
        """Moved by what the validation part taught, the middle level left as it is."""
        levels, middle = self.facts["levels"], self.facts["middle"]
        moved = said + np.asarray(self.facts["shifts"])
        if not self.facts["keep_middle"]:
            return np.sort(moved, axis=1)
        point = said[:, middle : middle + 1]
        below = np.sort(np.minimum(moved[:, :middle], point), axis=1)
        above = np.sort(np.maximum(moved[:, middle + 1 : len(levels)], point), axis=1)
        return np.concatenate([below, point, above], axis=1)

    def read_csv(self, path: "Path | str", *, series: str = "") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times, values and static numbers of one series of a table: a column of times (ISO), one for each column of the model.

        Rows that are missing between others are put in, empty. The table's first column holds the times unless the model knows
        better.
        """
        with open(path, newline="", encoding="utf-8-sig") as file:
            table = list(csv.DictReader(file))
        if not table:
            raise ValueError(f"{path} holds no rows")
        name = self.facts["time_column"] if self.facts["time_column"] in table[0] else next(iter(table[0]))
        lacking = [column for column in self.columns if column not in table[0]]
        if lacking:
            raise ValueError(f"{path} lacks the column {lacking[0]!r}; it has {', '.join(map(str, table[0]))}")
        key = self.facts["series_column"]
        if key in table[0]:
            table = [row for row in table if row[key] == series]
        by_time = {self._moment(row[name]): row for row in table}
        times = np.asarray(self._grid(sorted(by_time)), np.int64)
        rows = (by_time.get(time, {}) for time in times.tolist())
        values = [[self._measured(column, row.get(column)) for column in self.columns] for row in rows]
        static = [number(table[-1].get(column)) for column in self.facts["static_columns"]]
        return times, np.asarray(values), np.asarray(static)

    def _measured(self, column: str, cell: "str | None") -> float:
        """The number in a cell; NaN for none, and for those that meant "missing" in training."""
        value = number(cell)
        return math.nan if value in self.facts["sentinels"].get(column, ()) else value

    def _moment(self, text: str) -> int:
        """Microseconds since 1970 of a time as it is written: ISO, or 31.12.2024 23:00."""
        text, zone = DOTTED.sub(r"\3-\2-\1", text.strip()), self.facts["time_zone"]
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC if zone is None else ZoneInfo(zone))
        since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds

    def _grid(self, times: list[int]) -> list[int]:
        """Every step from the first time to the last; months are left as they stand."""
        step = self.facts["step_microseconds"]
        if not step:
            return times
        if any((time - times[0]) % step for time in times):
            raise ValueError(f"the times are not all a multiple of {self.facts['step']} apart")
        if (times[-1] - times[0]) // step > 10_000_000:
            raise ValueError("more than 10,000,000 steps lie between the first time and the last")
        return list(range(times[0], times[-1] + step, step))


def number(text: "str | None") -> float:
    """The number that a cell holds; NaN for what is none."""
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def phases(local: np.ndarray, circles: list[str]) -> np.ndarray:
    """Where each time stands on the circles of the calendar, 0 to 1: `[times, circles]`."""
    days = local // DAY
    dates = days.astype("datetime64[D]")
    first = dates.astype("datetime64[Y]").astype("datetime64[D]")
    length = (dates.astype("datetime64[Y]") + 1).astype("datetime64[D]") - first
    turns = {
        "hour": (local % DAY) / DAY,
        "weekday": ((days + 3) % 7) / 7,  # 1 January 1970 was a Thursday
        "year": (dates - first) / length + (local % DAY) / DAY / 366,
    }
    return (
        np.stack([turns[name].astype(np.float32) for name in circles], axis=1) if circles else np.zeros((len(local), 0))
    )


def load(folder: "Path | str | None" = None) -> "Text | Forecaster":
    """The model in `folder`, or beside this file."""
    folder = Path(folder) if folder is not None else Path(__file__).parent
    facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    with np.load(folder / "weights.npz", allow_pickle=False) as weights:
        return (Text if facts["kind"] == "text" else Forecaster)(facts, weights)


def main() -> None:
    """The command line."""
    model = load()
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    if isinstance(model, Text):
        parser.add_argument("--prime", default="", help="text to go on from")
        parser.add_argument("--length", type=int, default=500, help="symbols to write")
        parser.add_argument("--temperature", type=float, default=1.0)
        parser.add_argument("--seed", type=int)
        chosen = parser.parse_args()
        for piece in model.stream(chosen.prime, length=chosen.length, temperature=chosen.temperature, seed=chosen.seed):
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
        return
    parser.add_argument("table", help="CSV with a column of times and the model's columns")
    parser.add_argument("--series", default="", help="which series, where the table holds several")
    chosen = parser.parse_args()
    times, values, static = model.read_csv(chosen.table, series=chosen.series)
    said = model.forecast(times, values, series=chosen.series, static=static)
    rows = csv.writer(sys.stdout)
    rows.writerow(["rows ahead", *model.facts["levels"]])
    rows.writerows([ahead, *said[place].tolist()] for place, ahead in enumerate(model.facts["horizon"]))


if __name__ == "__main__":
    main()
