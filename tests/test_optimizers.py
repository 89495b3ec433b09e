"""Update rules against hand-written NumPy, and the learning rate over a run."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from contract import assert_close
from elman.config import TrainingSettings
from elman.training.optimizers import build_optimizer, learning_rate

Weights = dict[str, np.ndarray]

RATE, UPDATES = 0.1, 6


def starting_weights() -> Weights:
    generator = np.random.default_rng(0)
    return {"matrix": generator.standard_normal((3, 4)), "bias": generator.standard_normal(4)}


def gradients() -> Iterator[Weights]:
    """Small ones and large ones; one place is always 0."""
    generator = np.random.default_rng(1)
    for number in range(UPDATES):
        scale = 10.0 ** (number % 3 - 1)
        gradient = {"matrix": scale * generator.standard_normal((3, 4)), "bias": scale * generator.standard_normal(4)}
        gradient["matrix"][0, 0] = 0
        yield gradient


def by_elman(settings: TrainingSettings) -> list[Weights]:
    optimizer = build_optimizer(settings)
    weights = jax.tree.map(jnp.asarray, starting_weights())
    state = optimizer.init(weights)
    path = []
    for gradient in gradients():
        update, state = optimizer.update(jax.tree.map(jnp.asarray, gradient), state, weights)
        weights = optax.apply_updates(weights, jax.tree.map(lambda u: RATE * u, update))
        path.append(weights)
    return path


def by_hand(rule: Callable[[str, np.ndarray, np.ndarray, dict, int], np.ndarray], clip: Callable) -> list[Weights]:
    weights, memory, path = starting_weights(), {name: {} for name in ("matrix", "bias")}, []
    for number, gradient in enumerate(gradients(), 1):
        gradient = clip(gradient)
        weights = {name: w + rule(name, w, gradient[name], memory[name], number) for name, w in weights.items()}
        path.append(weights)
    return path


def adamw(name: str, w: np.ndarray, g: np.ndarray, memory: dict, number: int, decay: float = 0.0) -> np.ndarray:
    memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
    memory["v"] = 0.99 * memory.get("v", 0) + 0.01 * g**2
    mean, square = memory["m"] / (1 - 0.9**number), memory["v"] / (1 - 0.99**number)
    return -RATE * (mean / (np.sqrt(square) + 1e-8) + (decay * w if name == "matrix" else 0))


def decayed_adamw(name: str, w: np.ndarray, g: np.ndarray, memory: dict, number: int) -> np.ndarray:
    return adamw(name, w, g, memory, number, decay=0.3)


def adagrad(name: str, w: np.ndarray, g: np.ndarray, memory: dict, number: int) -> np.ndarray:
    memory["mem"] = memory.get("mem", 0) + g * g
    return -RATE * g / np.sqrt(memory["mem"] + 1e-8)


def sgd(name: str, w: np.ndarray, g: np.ndarray, memory: dict, number: int) -> np.ndarray:
    return -RATE * g


def momentum_sgd(name: str, w: np.ndarray, g: np.ndarray, memory: dict, number: int) -> np.ndarray:
    memory["m"] = 0.8 * memory.get("m", 0) + g
    return -RATE * memory["m"]


RULES = {
    "adamw": (adamw, {"optimizer": "adamw"}),
    "adamw with decay": (decayed_adamw, {"optimizer": "adamw", "weight_decay": 0.3}),
    "adagrad": (adagrad, {"optimizer": "adagrad"}),
    "sgd": (sgd, {"optimizer": "sgd", "momentum": 0.0}),
    "sgd with momentum": (momentum_sgd, {"optimizer": "sgd", "momentum": 0.8}),
}


def unclipped(gradient: Weights) -> Weights:
    return gradient


def clipped_by_value(gradient: Weights) -> Weights:
    return {name: np.clip(g, -5, 5) for name, g in gradient.items()}


def clipped_by_norm(gradient: Weights) -> Weights:
    norm = np.sqrt(sum((g**2).sum() for g in gradient.values()))
    return {name: g * min(1, 2 / norm) for name, g in gradient.items()}


def clipped_by_both(gradient: Weights) -> Weights:
    return clipped_by_norm(clipped_by_value(gradient))


CLIPS = {
    "unclipped": (unclipped, {"clip_norm": 0.0}),
    "by value": (clipped_by_value, {"clip_norm": 0.0, "clip_value": 5.0}),
    "by norm": (clipped_by_norm, {"clip_norm": 2.0}),
    "by value, then by norm": (clipped_by_both, {"clip_norm": 2.0, "clip_value": 5.0}),
}


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("rule", RULES)
def test_an_update_equals_the_formula(rule: str, clip: str, enable_x64: None) -> None:
    formula, rule_options = RULES[rule]
    clipping, clip_options = CLIPS[clip]
    found = by_elman(TrainingSettings(**{"weight_decay": 0.0, **rule_options, **clip_options}))
    for number, (weights, expected) in enumerate(zip(found, by_hand(formula, clipping), strict=True)):
        for name in expected:
            # float64; 1 / sqrt(x) and division round differently, six updates add up.
            assert_close(weights[name], expected[name], 1e-13, f"{name} after update {number}")


@pytest.mark.parametrize("clip", ["by value", "by norm"])
def test_the_gradients_of_these_tests_are_really_clipped(clip: str) -> None:
    clipping, _ = CLIPS[clip]
    changed = [any((clipping(g)[name] != g[name]).any() for name in g) for g in gradients()]
    assert any(changed)
    assert not all(changed)


# The learning rate -----------------------------------------------------------------------------------------------------------


def rates(progress: object, **options: object) -> np.ndarray:
    settings = TrainingSettings(**{"learning_rate": 0.5, "warmup": 0.0, **options})  # type: ignore[arg-type]
    return np.asarray(learning_rate(settings, jnp.asarray(progress)))


@pytest.mark.parametrize(
    ("schedule", "options", "expected"),
    [
        # at 0, 1/4, 1/2, 3/4 and 1 of the budget
        ("constant", {}, [0.5, 0.5, 0.5, 0.5, 0.5]),
        ("linear", {}, [0.5, 0.375, 0.25, 0.125, 0.0]),
        ("cosine", {}, [0.5, 0.25 * (1 + 0.5**0.5), 0.25, 0.25 * (1 - 0.5**0.5), 0.0]),
        ("linear", {"final_rate": 0.2}, [0.5, 0.4, 0.3, 0.2, 0.1]),
        ("cosine", {"final_rate": 1.0}, [0.5, 0.5, 0.5, 0.5, 0.5]),
        ("constant", {"final_rate": 0.2}, [0.5, 0.5, 0.5, 0.5, 0.5]),
        ("linear", {"warmup": 0.5}, [0.0, 0.25, 0.5, 0.25, 0.0]),
        ("cosine", {"warmup": 0.5, "final_rate": 0.1}, [0.0, 0.25, 0.5, 0.275, 0.05]),
        ("constant", {"warmup": 0.5}, [0.0, 0.25, 0.5, 0.5, 0.5]),
    ],
)
def test_the_learning_rate_at_key_points(
    schedule: str, options: dict[str, float], expected: list[float], enable_x64: None
) -> None:
    assert_close(rates([0.0, 0.25, 0.5, 0.75, 1.0], schedule=schedule, **options), np.array(expected), 1e-15)


@pytest.mark.parametrize("warmup", [0.0, 0.02, 0.9])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_learning_rate_rises_over_the_warm_up_and_never_rises_again(schedule: str, warmup: float) -> None:
    progress = np.linspace(0, 1, 1001)
    rate = rates(progress, schedule=schedule, warmup=warmup, final_rate=0.1)
    steps = np.diff(rate)
    rising = progress[1:] <= warmup
    assert (steps[rising] > 0).all()
    # Behind the warm-up; float32 rounds at 3e-8.
    assert (steps[progress[:-1] >= warmup] <= 6e-8).all()
    assert rate.max() <= 0.5
    assert rate.min() >= 0
    assert rate.max() == pytest.approx(0.5, rel=1e-3)


def test_beyond_its_budget_a_run_keeps_the_last_rate() -> None:
    np.testing.assert_array_equal(rates([1.0, 1.5], final_rate=0.2), rates([1.0, 1.0], final_rate=0.2))


def test_a_learning_rate_that_nobody_chose_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="resolved before training"):
        learning_rate(TrainingSettings(), jnp.asarray(0.0))
