"""The one training loop: blocks of updates compiled into one call, and between blocks everything a run needs.

The loop knows batches and losses, neither text nor series: what it trains on is a `Task`. All that an update depends on is in the
checkpoint or a function of the seed and the update's number, so that a run that was killed and resumed gives the same weights,
losses and samples, bit for bit, as one that was not.
"""

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from elman.config import TrainingSettings
from elman.errors import BundleError, ElmanError, TrainingError
from elman.network.model import to_arrays, with_arrays
from elman.training.classic import classic_block
from elman.training.distribution import Act, Alone, Group, Order
from elman.training.optimizers import build_optimizer, learning_rate
from elman.training.progress import Reporter, Status
from elman.training.runs import EventLog, Run

SAMPLE_MILESTONES = (100, 300, 700, 2000)
"""The lecture's iterations; from the last one on, samples are taken at every doubling."""

VALIDATIONS = 10
"""Validations over a budget where `validate_every` is not given."""

CHECKPOINT_SECONDS = 20.0
MAX_RECOVERIES = 3


class Trainable(Protocol):
    """What the loop needs of a network, whatever its task makes of it; otherwise it is a tree of arrays."""

    @property
    def parameter_count(self) -> int:
        """Numbers that training changes."""
        ...

    @property
    def drops(self) -> bool:
        """Whether training drops anything, and so needs random numbers."""
        ...


class Task(Protocol):
    """What training needs of the data. A task holds a cursor: where the next update's batch begins."""

    symbols_per_update: int
    initial_loss: float
    """The loss of an update by a network that knows nothing: where the smoothed loss starts."""
    score: str
    """Which of the figures of `validate` is to become small."""
    noun: str
    """What an update learns from: "characters", "forecasts"."""
    of_symbols: bool
    """Whether a batch is (symbols [unroll + 1, batch], fresh [batch]) and the loss that of each symbol after those before it."""

    def in_words(self, score: float) -> str:
        """A score as people read it, with its unit."""
        ...

    def initial_carry(self, network: Any) -> jax.Array:
        """The carry before the first update."""
        ...

    def take(self, update: int, count: int, size: int) -> Any:
        """The batches of updates `update` to `update + count`, every array padded to a first axis of `size`; moves the cursor."""
        ...

    def loss(self, network: Any, batch: Any, carry: jax.Array, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """The loss of one update and the carry behind it; called inside the compiled block.

        Where several processes train together, this one's share of the loss: the shares of all of them sum to the loss.
        """
        ...

    def validate(self, network: Any) -> dict[str, float]:
        """Figures over the held-out part, `score` among them; empty where nothing is held out."""
        ...

    def sample(self, network: Any, carry: jax.Array, iteration: int) -> str | None:
        """A sample for the timeline, or None. It must depend on its arguments and the cursor only."""
        ...

    def save_best(self, network: Any, path: Any, result: dict[str, Any]) -> None:
        """Write the bundle."""
        ...

    def cursor(self) -> dict[str, np.ndarray]:
        """The place in the data."""
        ...

    def move_to(self, cursor: dict[str, np.ndarray]) -> None:
        """Take the place up again."""
        ...


class State(NamedTuple):
    """Every array that an update reads and writes."""

    network: Any
    optimizer: optax.OptState
    average: Any
    carry: jax.Array


@dataclass
class Position:
    """Where a run stands: every number beside the arrays, as it is written into a checkpoint."""

    iteration: int = 0
    elapsed: float = 0.0
    rate_scale: float = 1.0
    recoveries: int = 0
    best: float | None = None
    best_iteration: int | None = None
    without_better: int = 0
    smoothed: float | None = None
    last_loss: float | None = None
    validations: list[list[float]] = field(default_factory=list)

    @classmethod
    def from_state(cls, found: Any) -> "Position":
        """The reverse of `vars`. Raises: `TypeError` for a table that holds anything else than such a position."""
        position = cls(**found)
        counts = {
            "iteration": position.iteration,
            "recoveries": position.recoveries,
            "without_better": position.without_better,
        }
        numbers = {"elapsed": position.elapsed, "rate_scale": position.rate_scale}
        optional = {name: getattr(position, name) for name in ("best", "best_iteration", "smoothed", "last_loss")}
        numbers |= {name: value for name, value in optional.items() if value is not None}
        pairs = position.validations
        if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            raise TypeError("its validations are no pairs")
        numbers |= {
            f"validation {place}": value for place, value in enumerate(value for pair in pairs for value in pair)
        }
        wrong = [name for name, value in counts.items() if type(value) is not int or value < 0]
        wrong += [name for name, value in numbers.items() if type(value) not in (int, float)]
        if wrong:
            raise TypeError(f"its {wrong[0]} is no number that it could be")
        return position


@dataclass(frozen=True)
class Budget:
    """How long a run may go on: `steps` updates, or `seconds` on the clock."""

    steps: int | None
    seconds: float | None

    def progress(self, position: Position) -> float:
        """From 0 at the start to 1 at the end."""
        if self.steps is not None:
            return position.iteration / self.steps
        assert self.seconds is not None
        return min(1.0, position.elapsed / self.seconds)

    def ahead(self, position: Position, count: int, seconds_per_update: float) -> np.ndarray:
        """The progress before each of the next `count` updates.

        With a budget in steps it is a function of the update's number alone, so that the learning rate does not depend, not even
        in its last bit, on where blocks begin.
        """
        if self.steps is not None:
            return (position.iteration + np.arange(count)) / self.steps
        assert self.seconds is not None
        return self.progress(position) + np.arange(count) * (seconds_per_update / self.seconds)


@dataclass
class Outcome:
    """How a run ended: "finished", "stopped early" or "interrupted"."""

    ending: str
    position: Position
    network: Any


class Trainer:
    """Runs a task to the end of its budget. `train` is the whole of its use."""

    def __init__(
        self,
        task: Task,
        network: Trainable,
        settings: TrainingSettings,
        run: Run | None,
        *,
        reporter: Reporter,
        facts: dict[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
        group: Alone | None = None,
    ) -> None:
        self.group = group or Alone()
        self.task, self.settings, self.reporter, self.clock = task, settings, reporter, clock
        self.run = cast(Run, run)  # a process that follows has none, and nothing that it does asks for it
        self.facts = facts or {}
        self.budget = _budget(settings)
        self.block_size = settings.block or 1
        self.optimizer = build_optimizer(settings)
        self.key = jax.random.key(settings.seed)
        self.position = Position()
        average = network if settings.average else None
        state = State(network, self.optimizer.init(network), average, task.initial_carry(network))
        # Copied, because a block takes the state's buffers over: none may be the caller's, or be in it twice.
        self.state: State = self.group.share_out(state)
        self._carry = jax.ShapeDtypeStruct(state.carry.shape, state.carry.dtype)
        alone = self.group.count == 1
        in_place = classic_block(network, state.carry, settings) if task.of_symbols and alone else None
        self.block = self.group.spread(in_place or self._block)
        self.rate = jax.jit(functools.partial(learning_rate, settings))
        self.seconds_per_update = 0.0
        self._blocks_run = 0
        self.interrupted = False
        self._ended = ""
        self._checkpoint_due = 0.0

    def interrupt(self) -> None:
        """Ask the loop to stop after the block it is in."""
        self.interrupted = True

    @property
    def network(self) -> Any:
        """The weights that are validated, sampled and saved: the running mean where there is one."""
        return self.group.local(self.state.network if self.state.average is None else self.state.average)

    def train(self, *, resume: bool = False) -> Outcome:
        """Train to the end of the budget, from the start or from the last checkpoint.

        Raises: `TrainingError` when the loss stays not finite, `RunError` when the run cannot be written.
        """
        with self.run.writing() as log:
            if resume:
                self._restore(log)
                log.write("resume", iteration=self.position.iteration, elapsed=round(self.position.elapsed, 3))
            else:
                log.truncate(0)  # of a run that was killed before its first checkpoint
                self.group.tell(Order(Act.RESTORE))
                self._spread_state(self._whole(), self.task.cursor())
                log.write("start", time=time.time(), parameters=self.network.parameter_count, **self.facts)
                if self.settings.sample_every:
                    self._sample(log)
                self._save_checkpoint(log)
            self.reporter.started(self._status())
            try:
                # A run that was over, and is opened again to be scored, is over: not one more update.
                ending = self._ended or self._run(log)
                if ending == "interrupted":
                    self._save_checkpoint(log)
                else:
                    self._finish(log, ending)
            except BaseException as error:
                self.reporter.pause()
                if isinstance(error, ElmanError | KeyboardInterrupt):
                    self.group.tell(Order(Act.STOP))
                raise
            self.group.tell(Order(Act.STOP))
            self.reporter.finished(self._status(), ending)
        return Outcome(ending, self.position, self.network)

    def follow(self) -> None:
        """Do what the leading process says, until it says stop."""
        assert isinstance(self.group, Group)
        while (order := self.group.hear()).act != Act.STOP:
            if order.act == Act.BLOCK:
                self._compute(order)
            elif order.act == Act.GATHER:
                self.group.whole_carry(self.state.carry)
            else:
                self._spread_state(self._whole(), self.task.cursor())

    def _compute(self, order: Order) -> tuple[np.ndarray, np.ndarray, bool]:
        """One block, here and in every other process: losses and gradient norms of its updates, and whether the state is finite."""
        assert order.numbers is not None
        batches = self.group.split(self.task.take(order.first, order.updates, self.block_size))
        numbers = order.numbers[:-1], order.numbers[-1]
        self.state, losses, norms, sound = self.block(
            self.state, batches, np.int32(order.updates), np.int32(order.first), numbers
        )
        return np.asarray(losses)[: order.updates], np.asarray(norms)[: order.updates], bool(sound)

    def _spread_state(self, state: State, cursor: dict[str, np.ndarray]) -> None:
        """Take up the leader's state and place in the data; in the leader itself, say them to the others."""
        state, cursor = self.group.send((state, cursor))
        self.state = self.group.share_out(state)
        self.task.move_to(cursor)

    def _whole(self) -> State:
        """The state of all processes together; its carry is zeros."""
        return self._with_carry(jnp.zeros(self._carry.shape, self._carry.dtype))

    def _with_carry(self, carry: jax.Array) -> State:
        """The state with the carry of all processes; the rest is the same everywhere."""
        network, optimizer, average, _ = self.state
        return State(*self.group.local([network, optimizer, average]), carry=carry)

    def _run(self, log: EventLog) -> str:
        """Blocks until the budget, the patience or the user ends it; the name of the ending."""
        while not self._out_of_patience() and not self._done():
            if self.interrupted:
                return "interrupted"
            began, before = self.clock(), self.position.iteration
            progress_before = self.budget.progress(self.position)
            self._advance(log)
            self.position.elapsed += self.clock() - began
            self._between_blocks(log, before, progress_before)
        return "stopped early" if self._out_of_patience() else "finished"

    def _out_of_patience(self) -> bool:  # asked before a block: a run that is resumed at its end takes no step
        return 0 < self.settings.patience <= self.position.without_better

    def _done(self) -> bool:
        return self.budget.progress(self.position) >= 1.0

    def _advance(self, log: EventLog) -> None:
        """One block: take the batches, update, log; go back to the last checkpoint where the loss is not finite."""
        position, began = self.position, self.clock()
        first, count = position.iteration, self._count()
        progress = self.budget.ahead(position, self.block_size, self.seconds_per_update)
        order = Order(Act.BLOCK, first, count, np.append(progress, position.rate_scale))
        self.group.tell(order)
        losses, norms, sound = self._compute(order)
        finite = np.isfinite(losses) & np.isfinite(norms)
        finite[-1] &= sound  # the last step's weights: no loss has met them yet
        if not finite.all():
            known = losses[: int(np.argmin(finite)) + 1]
            position.last_loss = next((float(loss) for loss in known[::-1] if np.isfinite(loss)), position.last_loss)
            self._recover(log, first + int(np.argmin(finite)))
            return
        seconds = self.clock() - began
        self._blocks_run += 1
        if self._blocks_run > 1:
            self.seconds_per_update = seconds / count
        position.iteration += count
        position.last_loss = float(losses[-1])
        position.smoothed = _smooth(position.smoothed, losses, self.task.initial_loss)
        rate = float(self.rate(progress[0])) * position.rate_scale
        speed = count * self.task.symbols_per_update / max(seconds, 1e-9)
        log.write(
            "update",
            iteration=first,
            loss=[float(loss) for loss in losses],
            learning_rate=rate,
            gradient_norm=float(norms[-1]),
            symbols_per_second=round(speed, 1),
            elapsed=round(position.elapsed + seconds, 3),
        )
        self.reporter.updated(
            self._status(learning_rate=rate, gradient_norm=float(norms[-1]), symbols_per_second=speed)
        )

    def _block(
        self, state: State, batches: Any, count: jax.Array, first: jax.Array, numbers: tuple[jax.Array, jax.Array]
    ) -> tuple[State, jax.Array, jax.Array, jax.Array]:
        """`count` updates in one compiled call, their losses and gradient norms, and whether the state behind them is finite.

        The bound is not static, so every count up to the block's size is one program.
        """
        size = self.block_size
        progress, rate_scale = numbers
        results = jnp.zeros(size, state.carry.dtype), jnp.zeros(size, state.carry.dtype)

        def body(index: jax.Array, value: tuple) -> tuple:
            state, losses, norms = value
            batch = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False), batches)
            rate = learning_rate(self.settings, progress[index]) * rate_scale
            state, loss, norm = self._update(state, batch, first + index, rate)
            return state, losses.at[index].set(loss), norms.at[index].set(norm)

        state, losses, norms = jax.lax.fori_loop(0, count, body, (state, *results))
        sound = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state)]).all()
        return state, losses, norms, sound

    def _update(
        self, state: State, batch: Any, iteration: jax.Array, rate: jax.Array
    ) -> tuple[State, jax.Array, jax.Array]:
        """One update of the weights."""
        network = state.network
        key = jax.random.fold_in(self.key, iteration) if network.drops else None

        def loss_of(network: Any) -> tuple[jax.Array, jax.Array]:
            return self.task.loss(network, batch, state.carry, key)

        (loss, carry), gradient = jax.value_and_grad(loss_of, has_aux=True)(network)
        loss, gradient = self.group.total((loss, gradient))
        steps, optimizer = self.optimizer.update(gradient, state.optimizer, network)
        network = jax.tree.map(lambda weight, step: weight + (rate * step).astype(weight.dtype), network, steps)
        average = state.average
        if average is not None:
            # The mean forgets its random beginning: its decay grows to the one asked for.
            decay = jnp.minimum(self.settings.average or 0.0, (1.0 + iteration) / (10.0 + iteration))
            average = jax.tree.map(
                lambda mean, weight: weight + decay.astype(weight.dtype) * (mean - weight), average, network
            )
        return State(network, optimizer, average, carry), loss, optax.tree.norm(gradient)

    def _count(self) -> int:
        """Updates until the end of the block or until the next thing that happens at an exact update."""
        if self._blocks_run < 2:
            return 1  # the first call compiles, the second tells how long an update takes
        iteration = self.position.iteration
        candidates = [self.block_size]
        if self.budget.steps is not None:
            candidates.append(self.budget.steps - iteration)
        for every in (self.settings.validate_every, self.settings.sample_every, self.settings.checkpoint_every):
            if every:
                candidates.append(every - iteration % every)
        if self.settings.sample_every is None:
            candidates.append(_next_milestone(iteration) - iteration)
        if self.settings.validate_every is None and self.budget.steps is not None:
            candidates.append(_next_share(iteration, self.budget.steps) - iteration)
        return max(1, min(candidates))

    def _between_blocks(self, log: EventLog, before: int, progress_before: float) -> None:
        """Whatever is due after a block: validation, sample, checkpoint. All of it counts towards a budget in minutes."""
        began, position = self.clock(), self.position
        iteration = position.iteration
        if iteration <= before:
            return
        every = self.settings.validate_every
        share = int(self.budget.progress(position) * VALIDATIONS) > int(progress_before * VALIDATIONS)
        if not self._done() and (share if every is None else every and iteration % every == 0):
            self._validate(log)
        every = self.settings.sample_every
        milestone = _next_milestone(before) <= iteration
        if milestone if every is None else every and iteration % every == 0:
            self._sample(log)
        position.elapsed += self.clock() - began
        every = self.settings.checkpoint_every
        due = self.clock() >= self._checkpoint_due
        if not self._done() and (due if every is None else iteration % every == 0):
            began = self.clock()
            self._save_checkpoint(log)
            position.elapsed += self.clock() - began

    def _finish(self, log: EventLog, ending: str) -> None:
        """The last validation, sample and checkpoint, and the line that says the run is over."""
        position = self.position
        if not position.validations or position.validations[-1][0] != position.iteration:
            self._validate(log)
        last_sample = self.run.last_event("sample")
        if self.settings.sample_every != 0 and (last_sample is None or last_sample["iteration"] != position.iteration):
            self._sample(log)
        log.write(
            "end",
            ending=ending,
            iteration=position.iteration,
            elapsed=round(position.elapsed, 3),
            validation=position.best,
            best_iteration=position.best_iteration,
        )
        self._save_checkpoint(log, ended=ending)

    def _validate(self, log: EventLog) -> None:
        position = self.position
        figures = self.task.validate(self.network)
        score = figures.get(self.task.score)
        if score is not None and not math.isfinite(score):
            return
        if score is not None:
            position.validations.append([position.iteration, score])
            log.write("validation", iteration=position.iteration, **figures, elapsed=round(position.elapsed, 3))
        better = score is None or position.best is None or score < position.best
        if better:
            position.best, position.best_iteration, position.without_better = score, position.iteration, 0
            result = {**figures, "iteration": position.iteration, "minutes": round(position.elapsed / 60, 3)}
            self.task.save_best(self.network, self.run.best_path, result)
        else:
            position.without_better += 1
        self.reporter.validated(self._status(), better)

    def _sample(self, log: EventLog) -> None:
        carry = self.group.local_carry(self.state.carry)
        text = self.task.sample(self.network, carry, self.position.iteration)
        if text is not None:
            log.write("sample", iteration=self.position.iteration, text=text, elapsed=round(self.position.elapsed, 3))
            self.reporter.sampled(self._status(), text)

    def _save_checkpoint(self, log: EventLog, ended: str | None = None) -> None:
        position = self.position
        log.write("checkpoint", iteration=position.iteration)
        self.group.tell(Order(Act.GATHER))
        state = self._with_carry(self.group.whole_carry(self.state.carry))
        arrays = {**to_arrays(state), **{f"cursor.{name}": value for name, value in self.task.cursor().items()}}
        facts = {"position": vars(position), "events": log.position(), "ended": ended}
        self.run.checkpoints.save(position.iteration, arrays, facts)
        self._checkpoint_due = self.clock() + CHECKPOINT_SECONDS

    def _restore(self, log: EventLog) -> None:
        """Take up the newest good checkpoint, and forget the events behind it: they will happen again."""
        checkpoint = self.run.checkpoints.latest()
        if checkpoint is None:
            raise TrainingError(f"{self.run.path} holds no checkpoint to continue from: start the run anew")
        cursor = {n.removeprefix("cursor."): a for n, a in checkpoint.arrays.items() if n.startswith("cursor.")}
        weights = {n: a for n, a in checkpoint.arrays.items() if not n.startswith("cursor.")}
        try:
            self.position = Position.from_state(checkpoint.state["position"])
            _check_cursor(cursor, self.task.cursor())
            state = with_arrays(self._whole(), weights, str(checkpoint.path))
            self.group.tell(Order(Act.RESTORE))
            self._spread_state(state, cursor)
            log.truncate(int(checkpoint.state["events"]))
            self._ended = str(checkpoint.state.get("ended") or "")
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{checkpoint.path} is not a state of this run: {error}") from None

    def _recover(self, log: EventLog, iteration: int) -> None:
        """The loss is not finite: back to the last good state with half the learning rate."""
        recoveries, elapsed = self.position.recoveries + 1, self.position.elapsed
        last_loss, rate_scale = self.position.last_loss, self.position.rate_scale / 2
        if recoveries > MAX_RECOVERIES:
            finite = "none was finite" if last_loss is None else f"the last finite loss was {last_loss:.4g}"
            clip = "a smaller --clip-norm" if self.settings.clip_norm else "--clip-norm 1"
            raise TrainingError(
                f"the loss stopped being finite at update {iteration}, after {MAX_RECOVERIES} attempts with smaller learning rates "
                f"({finite}): try a smaller --learning-rate than {self.settings.learning_rate:g}, or {clip}"
            )
        self._restore(log)
        self.position.recoveries, self.position.rate_scale, self.position.elapsed = recoveries, rate_scale, elapsed
        log.write("recovery", iteration=self.position.iteration, failed=iteration, rate_scale=rate_scale)
        self.reporter.message(
            f"loss not finite at update {iteration}: back to update {self.position.iteration} "
            f"with {rate_scale:g} x the learning rate ({recoveries} of {MAX_RECOVERIES})"
        )
        self._save_checkpoint(log)

    def _status(self, **now: float) -> Status:
        position = self.position
        progress = self.budget.progress(position)
        if self.budget.steps is not None:
            left = (self.budget.steps - position.iteration) * self.seconds_per_update
        else:
            left = max(0.0, (self.budget.seconds or 0.0) - position.elapsed)
        return Status(
            iteration=position.iteration,
            steps=self.budget.steps,
            progress=progress,
            seconds_left=left,
            elapsed=position.elapsed,
            loss=position.last_loss,
            smoothed=position.smoothed,
            validation=position.validations[-1][1] if position.validations else None,
            best=position.best,
            noun=self.task.noun,
            in_words=self.task.in_words,
            **now,
        )


def _check_cursor(found: dict[str, np.ndarray], own: dict[str, np.ndarray]) -> None:
    """Raises `ValueError` where a place in the data is not made of the task's own arrays."""
    if found.keys() != own.keys():
        raise ValueError(f"its place in the data is said by {sorted(found)[:9]}, not by {sorted(own)}")
    for name, array in own.items():
        if found[name].shape != array.shape or found[name].dtype != array.dtype or (found[name] < 0).any():
            raise ValueError(f"its place in the data has {name!r} that is no {array.dtype} {array.shape} of at least 0")


def _budget(settings: TrainingSettings) -> Budget:
    if settings.steps is not None:
        return Budget(settings.steps, None)
    if settings.minutes is not None:
        return Budget(None, settings.minutes * 60)
    raise ValueError("the budget is resolved to steps or minutes before training starts")


def _smooth(smoothed: float | None, losses: np.ndarray, initial: float) -> float:
    """The classic program's running mean: 0.999 · old + 0.001 · new, for a whole block at once."""
    smoothed = initial if smoothed is None else smoothed
    weights = 0.001 * 0.999 ** np.arange(len(losses) - 1, -1, -1)
    return float(0.999 ** len(losses) * smoothed + weights @ losses.astype(np.float64))


def _next_milestone(iteration: int) -> int:
    """The first iteration behind `iteration` at which the timeline takes a sample: 100, 300, 700, 2000, 4000, 8000, ..."""
    for milestone in SAMPLE_MILESTONES:
        if milestone > iteration:
            return milestone
    milestone = SAMPLE_MILESTONES[-1]
    while milestone <= iteration:
        milestone *= 2
    return milestone


def _next_share(iteration: int, steps: int) -> int:
    """The first iteration behind `iteration` at which another tenth of the steps is done."""
    share = iteration * VALIDATIONS // steps + 1
    return -(-share * steps // VALIDATIONS)
