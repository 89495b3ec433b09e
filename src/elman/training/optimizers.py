"""Update rules, from Optax: clip, precondition, decay. The learning rate is not in them but multiplied on afterwards.

It depends on the progress of the run (0 at the start, 1 at the end of the budget), which for a budget in minutes only the clock
knows; so `learning_rate` is a function of progress, and what a rule returns is a step for a learning rate of 1.
"""

import jax
import jax.numpy as jnp
import optax

from elman.config import TrainingSettings

NEWTON_SCHULZ_STEPS = 3
"""Three are as good as the usual five on character models (docs/log.md), and cost three fifths."""


ADAGRAD_EPSILON = 1e-8
"""What the classic program adds to the sum of squares."""


def build_optimizer(settings: TrainingSettings) -> optax.GradientTransformation:
    """The chain of clipping and update rule; add `learning_rate * update` to the weights.

    muon: momentum made orthogonal by Newton-Schulz steps, for the matrices between layers and states (Jordan et al. 2024); vectors,
        the rows of one-hot inputs and the head take adamw's rule. Its steps are scaled to adamw's size (Liu et al. 2025, eq. 4).
    adamw: Loshchilov & Hutter 2019; the decay pulls on matrices only, not on biases and scales.
    adagrad: Duchi et al. 2011 in the classic minimal program's form, g / sqrt(sum g² + 1e-8), the sum starting at 0.
    sgd: with momentum, g accumulated as in PyTorch.
    """
    if settings.optimizer is None:
        raise ValueError("optimizer is resolved before training starts")
    parts = []
    if settings.clip_value > 0:
        parts.append(optax.clip(settings.clip_value))
    if settings.clip_norm > 0:
        parts.append(optax.clip_by_global_norm(settings.clip_norm))
    if settings.optimizer == "muon":
        parts.append(
            optax.contrib.muon(
                learning_rate=1.0,
                ns_steps=NEWTON_SCHULZ_STEPS,
                consistent_rms=0.2,
                adam_b1=settings.momentum,
                adam_b2=settings.second_moment,
                weight_decay=settings.weight_decay,
                muon_weight_dimension_numbers=_between_states,
            )
        )
        return optax.chain(*parts)
    if settings.optimizer == "adamw":
        parts.append(optax.scale_by_adam(b1=settings.momentum, b2=settings.second_moment))
        if settings.weight_decay > 0:
            parts.append(optax.add_decayed_weights(settings.weight_decay, mask=_matrices))
    elif settings.optimizer == "adagrad":
        parts.append(optax.scale_by_rss(initial_accumulator_value=0.0, eps=ADAGRAD_EPSILON))
    elif settings.momentum > 0:
        parts.append(optax.trace(decay=settings.momentum))
    return optax.chain(*parts, optax.scale(-1.0))


def learning_rate(settings: TrainingSettings, progress: jax.Array) -> jax.Array:
    """The learning rate at `progress` (0 to 1): a linear rise over `warmup`, then the fall of `schedule` to `final_rate`."""
    if settings.learning_rate is None:
        raise ValueError("learning_rate is resolved before training starts")
    progress = jnp.clip(progress, 0.0, 1.0)
    fraction = jnp.clip((progress - settings.warmup) / max(1.0 - settings.warmup, 1e-12), 0.0, 1.0)
    if settings.schedule == "cosine":
        falling = 0.5 * (1 + jnp.cos(jnp.pi * fraction))
    elif settings.schedule == "linear":
        falling = 1 - fraction
    else:
        falling = jnp.ones_like(fraction)
    shape = settings.final_rate + (1 - settings.final_rate) * falling
    if settings.warmup > 0:
        shape = jnp.where(progress < settings.warmup, progress / settings.warmup, shape)
    return settings.learning_rate * shape


def _between_states(weights: optax.Params) -> optax.Params:
    """Which matrices muon makes orthogonal: those that multiply a hidden state, from below or from the step before."""

    def dimensions(path: tuple, leaf: jax.Array) -> optax.contrib.MuonDimensionNumbers | None:
        name = jax.tree_util.keystr(path)
        reads_state = "weight_hidden" in name or ("weight_inputs" in name and "cells[0]" not in name)
        return optax.contrib.MuonDimensionNumbers() if reads_state else None

    return jax.tree_util.tree_map_with_path(dimensions, weights)


def _matrices(weights: optax.Params) -> optax.Params:
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, weights)
