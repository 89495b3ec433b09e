"""What a text and a budget decide where nothing is said, and that whatever is said stands."""

from typing import Any

import pytest

from elman.config import Config
from elman.text.presets import LONG_MINUTES, resolve


def resolved(symbols: int, **settings: Any) -> Config:
    return resolve(Config().replace(**settings), symbols, 65)


@pytest.mark.parametrize("symbols", [10, 5_000, 50_000, 100_000, 1_000_000, 5_000_000, 10**8, 10**10])
def test_more_text_and_more_minutes_never_make_a_smaller_network(symbols: int) -> None:
    short, long = resolved(symbols, minutes=3.0), resolved(symbols, minutes=LONG_MINUTES)
    more = resolved(10 * symbols, minutes=3.0)
    assert short.network.hidden is not None
    assert long.network.hidden is not None
    assert more.network.hidden is not None
    assert short.network.hidden <= long.network.hidden
    assert short.network.hidden <= more.network.hidden
    assert short.network.dropout is not None
    assert long.network.dropout is not None
    assert short.network.dropout <= long.network.dropout <= 0.5


def test_the_default_budget_is_three_minutes_and_its_network_has_256_units() -> None:
    config = resolved(1_003_854)
    assert (config.training.minutes, config.network.hidden, config.network.dropout) == (3.0, 256, 0.15)


def test_ten_minutes_of_a_short_text_get_more_units_and_more_dropout() -> None:
    config = resolved(1_003_854, minutes=10.0)
    assert (config.network.hidden, config.network.dropout) == (384, 0.35)


@pytest.mark.parametrize("budget", [{"steps": 10**6}, {"epochs": 50.0}])
def test_a_budget_without_a_clock_keeps_the_sizes_of_the_short_one(budget: dict[str, Any]) -> None:
    assert resolved(1_003_854, **budget).network == resolved(1_003_854).network


def test_what_is_given_stands() -> None:
    config = resolved(1_003_854, minutes=60.0, hidden=32, dropout=0.0, batch=4, unroll=8, learning_rate=0.5)
    assert (config.network.hidden, config.network.dropout) == (32, 0.0)
    assert (config.training.batch, config.training.unroll, config.training.learning_rate) == (4, 8, 0.5)


def test_a_tiny_text_is_cut_into_streams_that_fit() -> None:
    config = resolved(10)
    assert config.training.batch == 1
    assert config.training.unroll is not None
    assert config.training.unroll < 10
