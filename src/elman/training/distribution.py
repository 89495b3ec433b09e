"""One run on several processes, here or on many hosts: each reads its own part of every batch, and gradients are summed.

The processes meet through JAX's own runtime (`jax.distributed`; gloo's collectives on CPUs). Process 0 *leads*: it alone has the
run folder, the clock and the person in front of it, and tells the others what comes next (`Order`). The others *follow*: they need
their part of the data and nothing else. Weights and the optimizer's state are the same everywhere, bit for bit, because every
process adds the same summed gradient; the carried state of a stream stays where the stream is read.

`Alone` is a run of one process: every method is the identity, and the training loop does not know the difference.
"""

import atexit
import contextlib
import enum
import functools
import itertools
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from elman.errors import ConfigError, TrainingError

AXIS = "processes"

SILENCE_SECONDS = 20
"""A process that has not been heard of for so long is taken for dead, and all others stop."""

WATCH_SECONDS = 2
"""Pause between two meetings of the watches: a message of a hundred bytes each."""

HEARTBEAT_SECONDS = 90
"""When JAX would abort the process with a stack trace for the same reason: the watch is to be first."""

FAILED = 2
"""Exit status of a process that leaves the others alone: that of any error that a person can mend."""


ELSEWHERE = "192.0.2.1"
"""An address that is nobody's (RFC 5737): the way to it is the way out of this host."""


MEETING_SECONDS = 120
"""How long processes wait for each other at the start."""


class Act(enum.IntEnum):
    """What the leader may ask for."""

    BLOCK = 0
    GATHER = 1
    RESTORE = 2
    STOP = 3


class Order(NamedTuple):
    """What all processes do next. A block: `updates` from `first` on; `numbers`: their progress, and the rate's factor."""

    act: Act
    first: int = 0
    updates: int = 0
    numbers: np.ndarray | None = None


class Alone:
    """A run of one process."""

    count = 1
    leads = True

    def part(self, batch: int) -> slice:
        """The columns of a batch that this process reads."""
        return slice(0, batch)

    def place(self, batch: int) -> tuple[Any, int] | None:
        """Inside the compiled block: this part's first column, and the columns of the whole batch. None: all are here."""
        return None

    def total(self, share: Any) -> Any:
        """Inside the compiled block: the sum over all processes."""
        return share

    def spread(self, block: Callable) -> Callable:
        """The compiled block: (state, batches, count, first, numbers) -> (state, losses, norms, sound)."""
        return jax.jit(block, donate_argnums=0)

    def share_out(self, state: Any) -> Any:
        """A whole state as the block takes it; its `carry` has the batch on its last axis but one."""
        return jax.tree.map(jnp.copy, state)

    def split(self, batches: Any) -> Any:
        """This process's part of the batches as the block takes it."""
        return batches

    def local(self, tree: Any) -> Any:
        """What is the same everywhere, as arrays of this process."""
        return tree

    def local_carry(self, carry: Any) -> Any:
        """The carry of this process's part."""
        return carry

    def whole_carry(self, carry: Any) -> Any:
        """The carry of all parts; every process must ask."""
        return carry

    def tell(self, order: Order) -> None:
        """Say to the followers what comes next."""

    def send(self, tree: Any) -> Any:
        """What the leader has, for everyone: `tree` has the same shapes in every process."""
        return tree

    def send_text(self, text: str) -> str:
        """A text of the leader's, for everyone."""
        return text


class Group(Alone):
    """One of several processes that train together. `join` makes one."""

    def __init__(self) -> None:
        self.watch = Watch()
        self.count, self.number = jax.process_count(), jax.process_index()
        self.leads = self.number == 0
        devices = [next(d for d in jax.devices() if d.process_index == process) for process in range(self.count)]
        self.mesh = Mesh(np.array(devices), (AXIS,))
        self.apart, self.same = (NamedSharding(self.mesh, spec) for spec in (PartitionSpec(AXIS), PartitionSpec()))

    def check(self, batch: int) -> None:
        """Raises: `ConfigError` where a batch cannot be cut into equal parts."""
        if batch % self.count:
            raise ConfigError(
                f"batch = {batch} cannot be shared by {self.count} processes: give a --batch that is a multiple of {self.count}"
            )

    def part(self, batch: int) -> slice:
        self.check(batch)
        size = batch // self.count
        return slice(self.number * size, (self.number + 1) * size)

    def place(self, batch: int) -> tuple[Any, int]:
        return jax.lax.axis_index(AXIS).astype(jnp.uint32) * (batch // self.count), batch

    def total(self, share: Any) -> Any:
        # All of it in one message: each one costs milliseconds of waiting, however short it is.
        numbers, parts_of = ravel_pytree(share)
        return parts_of(jax.lax.psum(numbers, AXIS))

    def spread(self, block: Callable) -> Callable:
        def part_of_block(state: Any, batches: Any, *rest: Any) -> tuple:
            mine = state._replace(carry=state.carry[0])
            after, *figures = block(mine, jax.tree.map(lambda leaf: leaf[0], batches), *rest)
            return (after._replace(carry=after.carry[None]), *figures)

        def run(state: Any, batches: Any, *rest: Any) -> tuple:
            same, apart = PartitionSpec(), PartitionSpec(AXIS)
            states = jax.tree.map(lambda _: same, state)._replace(carry=apart)
            sharded = jax.shard_map(
                part_of_block,
                mesh=self.mesh,
                in_specs=(states, jax.tree.map(lambda _: apart, batches), *(same for _ in rest)),
                out_specs=(states, same, same, same),
                check_vma=False,
            )
            return sharded(state, batches, *rest)

        return jax.jit(run, donate_argnums=0)

    def share_out(self, state: Any) -> Any:
        carry = state.carry[..., self.part(state.carry.shape[-2]), :]
        everywhere = jax.tree.map(lambda leaf: _global(self.same, np.asarray(leaf)), state._replace(carry=None))
        return everywhere._replace(carry=_global(self.apart, np.asarray(carry)[None]))

    def split(self, batches: Any) -> Any:
        return jax.tree.map(lambda leaf: _global(self.apart, np.asarray(leaf)[None]), batches)

    def local(self, tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)

    def local_carry(self, carry: Any) -> Any:
        return carry.addressable_data(0)[0]

    def whole_carry(self, carry: Any) -> Any:
        from jax.experimental import multihost_utils

        parts = np.asarray(multihost_utils.process_allgather(carry, tiled=True))
        return np.concatenate(list(parts), axis=-2)

    def tell(self, order: Order) -> None:
        if order.act is Act.STOP:
            self.watch.stop()
        numbers = np.zeros(0) if order.numbers is None else order.numbers
        self._header(np.asarray([order.act, order.first, order.updates, len(numbers)], np.int64))
        if len(numbers):
            self.send(numbers)

    def hear(self) -> Order:
        """What the leader says."""
        act, first, updates, length = self._header(np.zeros(4, np.int64)).tolist()
        if act == Act.STOP:
            self.watch.stop()
        return Order(Act(act), first, updates, self.send(np.zeros(length)) if length else None)

    def _header(self, numbers: np.ndarray) -> np.ndarray:
        return np.asarray(self.send(numbers))

    def send(self, tree: Any) -> Any:
        """As bytes: JAX would shorten wide numbers where it computes in float32."""
        from jax.experimental import multihost_utils

        leaves, structure = jax.tree.flatten(tree)
        arrays = [np.asarray(leaf) for leaf in leaves]
        sent = np.concatenate([np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays])
        heard = np.asarray(multihost_utils.broadcast_one_to_all(sent), np.uint8)
        ends = np.cumsum([array.nbytes for array in arrays])
        parts = np.split(heard, ends[:-1])
        return jax.tree.unflatten(
            structure,
            [part.copy().view(array.dtype).reshape(array.shape) for part, array in zip(parts, arrays, strict=True)],
        )

    def send_text(self, text: str) -> str:
        encoded = np.frombuffer(text.encode(), np.uint8)
        length = int(self.send(np.asarray(len(encoded), np.int64)))
        return bytes(self.send(encoded if self.leads else np.zeros(length, np.uint8))).decode()


class Watch(threading.Thread):
    """Meets the watches of the other processes again and again; where one stays away, this process ends.

    A host whose cable is cut closes no connection: a sum over all processes would wait for it as long as the system waits for an
    answer, a quarter of an hour on Linux.
    """

    def __init__(self) -> None:
        super().__init__(name="watch", daemon=True)
        self._over = threading.Event()
        self._met = time.monotonic()

    def stop(self) -> None:
        """From here on the others may leave."""
        self._over.set()

    def run(self) -> None:
        self._met = time.monotonic()
        threading.Thread(target=self._meet, name="meetings", daemon=True).start()
        while not self._over.wait(WATCH_SECONDS):
            if time.monotonic() - self._met > SILENCE_SECONDS + 2 * WATCH_SECONDS:
                sys.stderr.write(f"elman: error: {_gone(f'not heard of for {SILENCE_SECONDS} seconds')}\n")
                sys.stderr.flush()
                os._exit(FAILED)

    def _meet(self) -> None:
        """A thread of its own: where the host of the leader is out of reach, a meeting does not even end in time."""
        from jax._src import distributed

        client: Any = distributed.global_state.client
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # somebody stayed away: `run` sees it by the clock
            for meeting in itertools.count():
                client.wait_at_barrier(f"elman-watch-{meeting}", SILENCE_SECONDS * 1000)
                self._met = time.monotonic()
                if self._over.wait(WATCH_SECONDS):
                    return


def _gone(reason: str) -> str:
    return (
        f"another process of this run has stopped answering ({reason}): the last checkpoint is kept; "
        f"start all processes again with --resume"
    )


def join(coordinator: str | None = None, processes: int | None = None, process_id: int | None = None) -> Group:
    """Meet the other processes of a run, before anything else has used JAX. Without arguments the cluster says who they are.

    JAX knows SLURM, Open MPI and Kubernetes; elsewhere give the address of process 0, how many there are, and which this one is.

    Raises: `ConfigError` where they do not meet.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # Where a process dies, the others' next sum fails, which is told in words; JAX would abort them with a stack trace instead.
    jax.config.update("jax_enable_recoverability", True)
    jax.config.update("jax_enable_preemption_service", False)
    try:
        with _standard_output_elsewhere():
            jax.distributed.initialize(
                coordinator,
                processes,
                process_id,
                coordinator_bind_address=_address_to_listen_at(coordinator),
                initialization_timeout=MEETING_SECONDS,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
                shutdown_timeout_seconds=SILENCE_SECONDS,
            )
            _listen_towards_the_others()
            group = Group()
            group.send(np.zeros(1))  # the first sum makes the connections
            group.watch.start()
    except (RuntimeError, ValueError) as error:
        where = f"at {coordinator}" if coordinator else "by what the cluster says of itself"
        raise ConfigError(f"the processes of this run did not meet {where}: {_first_line(error)}") from None
    return group


def _address_to_listen_at(coordinator: str | None) -> str | None:
    """Where process 0 listens: a run on one host at that host's own address only, for whoever reaches it may take part.

    None leaves it to JAX, which then listens at every address of the host.
    """
    name = (coordinator or "").rpartition(":")[0]
    return coordinator if name in ("127.0.0.1", "localhost", "[::1]") else None


def _own_address(host: str, port: int) -> str:
    """The address of this host that packets to `host` would leave from. Nothing is sent."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])


def _listen_towards_the_others() -> None:
    """Let gloo listen at this host's address on the way to the coordinator.

    By itself it takes the address that the host's own name leads to, which on many systems is 127.0.0.1 (Debian writes it into
    /etc/hosts), where no other host reaches it. JAX has no setting for it (`xla_bridge.make_cpu_client`, 0.10).
    """
    from jax._src import distributed, xla_bridge

    host, _, port = str(distributed.global_state.coordinator_address).rpartition(":")
    own = _own_address(host.strip("[]"), int(port))
    if own.startswith("127.") and not host.startswith("127.") and host != "localhost":
        with contextlib.suppress(OSError):  # no way out of this host: then all are here
            own = _own_address(ELSEWHERE, int(port))
    make = xla_bridge._jax.make_gloo_tcp_collectives
    if not isinstance(make, functools.partial):
        xla_bridge._jax.make_gloo_tcp_collectives = functools.partial(make, hostname=own)


@contextlib.contextmanager
def _standard_output_elsewhere() -> Iterator[None]:
    """Inside, standard output goes to standard error: gloo says there whom it met, which is no part of what `--json` prints."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def leave(group: Alone, status: int) -> None:
    """Let this process end with `status` as soon as Python is done with it, whatever the others do.

    JAX's own way out waits for processes that may be gone, and takes it for a failure where the leader is gone before the others.
    """
    if group.count == 1:
        return

    def end() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)

    atexit.register(end)  # what was registered last goes first


@contextlib.contextmanager
def together(group: Alone) -> Iterator[None]:
    """Inside, this process does its part of a run. Where it fails it leaves the others at once, and says so where one of them did.

    Raises: `TrainingError` where another process is gone.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(group, Group):
            raise
        group.watch.stop()
        leave(group, FAILED)
        # What the sum over all processes raises depends on who waits for it.
        if isinstance(error, jax.errors.JaxRuntimeError) or (isinstance(error, ValueError) and "Gloo" in str(error)):
            raise TrainingError(_gone(_first_line(error))) from None
        raise


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def _global(sharding: NamedSharding, array: np.ndarray) -> jax.Array:
    return jax.make_array_from_process_local_data(sharding, array)
