"""From a text to a trained model: opens the text, fills in the settings, makes the run folder and hands over to the loop."""

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import elman
from elman.config import GROUPS, Config
from elman.errors import DataError, RunError
from elman.network import CELLS, Network
from elman.text.encoded import EncodedText, open_text, split
from elman.text.model import new_network
from elman.text.ngrams import baselines
from elman.text.presets import preset as preset_settings
from elman.text.presets import resolve
from elman.text.reading import spool_standard_input
from elman.text.run import TextRun
from elman.text.task import TextTask
from elman.training.archives import read_archive
from elman.training.cache import default_cache_folder
from elman.training.distribution import Alone, Group
from elman.training.downloads import DATA_FOLDER_VARIABLE
from elman.training.engine import precision, use_compilation_cache
from elman.training.interrupts import interruptible
from elman.training.loop import Trainer
from elman.training.progress import Reporter
from elman.training.runs import Run, default_run_path
from elman.training.storage import write_atomically

RUN_FORMAT = 1


@dataclass(frozen=True)
class Prepared:
    """A text that is ready to be trained on: what `prepare` found out before the first update."""

    encoded: EncodedText
    training: np.ndarray
    held_out: np.ndarray
    config: Config

    @property
    def facts(self) -> dict[str, Any]:
        """What the log's first line says of the data."""
        return {
            "training_symbols": len(self.training),
            "held_out_symbols": len(self.held_out),
            "vocabulary_size": self.encoded.vocabulary.size,
            "sources": list(self.encoded.sources)[:100],
        }


def train_text(
    *inputs: str | Path,
    run: Path | str | None = None,
    preset: str | None = None,
    init: Path | str | None = None,
    data_folder: Path | None = None,
    reporter: Reporter | None = None,
    prepared: Callable[[Prepared, dict[str, Any], Run], None] | None = None,
    group: Alone | None = None,
    **settings: Any,
) -> TextRun:
    """Train a character model on files, folders, globs, `-` or a corpus by name, and return the run.

    run: the run folder; None: a new one in `runs/`. preset: see `PRESETS`; `settings` go over it. init: an `.npz` with starting
    weights in the classic program's names. prepared: called before the first update with the data and the baselines. group: the
    processes that train together, of which this one leads; the others call `follow_text`.
    settings: any setting of `docs/settings.md` by name.

    Raises: `ConfigError`, `DataError`, `RunError`, `TrainingError`.
    """
    reporter = reporter or Reporter()
    chosen = {**(preset_settings(preset) if preset else {}), **settings}
    if any(settings.get(budget) is not None for budget in ("minutes", "steps", "epochs")):
        chosen |= {budget: settings.get(budget) for budget in ("minutes", "steps", "epochs")}
    config = Config().replace(**chosen)
    if not inputs:
        raise DataError(
            "no text was given: name a file, a folder, `-` for standard input, or a corpus such as python-docs"
        )
    run_path = Path(run) if run is not None else default_run_path(_run_name(inputs, preset))
    with _with_standard_input(inputs, run_path) as sources:
        ready = prepare(sources, config, data_folder, reporter)
        (group or Alone()).part(ready.config.training.batch or 1)  # whether it can be shared, before anything is made
        # Also where only the environment named it: the run is to go on from a shell that does not.
        corpora_in = data_folder or os.environ.get(DATA_FOLDER_VARIABLE)
        use_compilation_cache()
        network = _starting_network(ready, init)
        description = {
            "run": {
                "format": RUN_FORMAT,
                "task": "text",
                "elman": elman.__version__,
                "inputs": [str(_absolute(source)) for source in sources],
                "digest": ready.encoded.digest,
                **({"preset": preset} if preset else {}),
                **({"init": str(Path(init).absolute())} if init else {}),
                **({"data_folder": str(Path(corpora_in).absolute())} if corpora_in else {}),
            },
            **ready.config.to_dict("text"),
        }
        folder = Run.create(run_path, description)
    return _train(ready, network, folder, reporter, prepared, group or Alone(), resume=False)


def resume_text(
    path: Path | str,
    *,
    reporter: Reporter | None = None,
    prepared: Callable[[Prepared, dict[str, Any], Run], None] | None = None,
    group: Alone | None = None,
) -> TextRun:
    """Go on with a run from its last checkpoint, bit for bit as if it had never stopped; a run that is over is returned as it is.

    Raises: `RunError` when the run is in use or damaged, `DataError` when its text is no longer the same.
    """
    reporter = reporter or Reporter()
    run = Run(path)
    _, facts = read_description(run)
    checkpoint = run.checkpoints.latest()
    group = group or Alone()
    if checkpoint is not None and checkpoint.state.get("ended"):
        group.send_text("")
        return TextRun(run.path)
    ready = reopen(run, reporter)
    use_compilation_cache()
    network = _starting_network(ready, facts.get("init") if checkpoint is None else None)
    return _train(ready, network, run, reporter, prepared, group, resume=checkpoint is not None)


def reopen(run: Run, reporter: Reporter | None = None, *, data_folder: Path | str | None = None) -> Prepared:
    """The text of a run, opened and split as it was.

    data_folder: where a corpus by name is looked for, instead of where the run found it.

    Raises: `RunError` for a damaged run, `DataError` where its text is gone or no longer the same.
    """
    config, facts = read_description(run)
    folder = data_folder or facts.get("data_folder")
    ready = prepare(facts["inputs"], config, Path(folder) if folder else None, reporter)
    if ready.encoded.digest != facts["digest"]:
        raise DataError(
            f"the text of {run.path} has changed since the run began ({', '.join(facts['inputs'])}): restore it, or "
            f"start a new run"
        )
    return ready


def follow_text(group: Group) -> None:
    """Train along with the process that leads: what to train on what comes from it, the text is found here under the same names.

    Raises: `DataError` where the text here is another one, `TrainingError` where another process is gone.
    """
    text = group.send_text("")
    if not text:
        return  # the run was over
    told = json.loads(text)
    config = Config.from_dict(told["config"])
    ready = prepare(told["inputs"], config, Path(told["data_folder"]) if told["data_folder"] else None)
    if ready.encoded.digest != told["digest"]:
        raise DataError(
            f"the text here is not that of the first process ({', '.join(told['inputs'])}): bring the same files"
        )
    use_compilation_cache()
    with precision(config.training.dtype):
        task = TextTask(ready.training, ready.held_out, ready.encoded.vocabulary, config, group)
        Trainer(task, _starting_network(ready, None), config.training, None, reporter=Reporter(), group=group).follow()


def read_description(run: Run) -> tuple[Config, dict[str, Any]]:
    """The settings of a text run, and what its `[run]` table says.

    Raises: `RunError` when the run is of another task or format, or its table is incomplete.
    """
    tables, facts = run.settings_and_facts("text", RUN_FORMAT)
    inputs, texts = facts.get("inputs"), [facts.get("digest"), facts.get("init", ""), facts.get("data_folder", "")]
    if not isinstance(inputs, list) or not all(isinstance(text, str) for text in [*inputs, *texts]):
        raise RunError(
            f"{run.path / 'config.toml'} does not say which text the run is about (inputs, digest): it is damaged; "
            f"restore it from a copy, or start a new run"
        )
    return Config.from_dict({group: values for group, values in tables.items() if group in GROUPS}), facts


def prepare(
    inputs: Sequence[str | Path], config: Config, data_folder: Path | None = None, reporter: Reporter | None = None
) -> Prepared:
    """Open and split the text and fill in the settings that were left to the program."""
    reporter = reporter or Reporter()
    try:
        encoded = open_text(list(map(str, inputs)), config.text, data_folder=data_folder, progress=reporter.working)
    finally:
        reporter.pause()
    training, held_out = split(encoded, config.text.validation)
    resolved = resolve(config, len(training), encoded.vocabulary.size)
    _check_sizes(resolved, len(training))
    return Prepared(encoded, training, held_out, resolved)


def _train(
    ready: Prepared,
    network: Network,
    run: Run,
    reporter: Reporter,
    prepared: Callable[[Prepared, dict[str, Any], Run], None] | None,
    group: Alone,
    *,
    resume: bool,
) -> TextRun:
    about = run.description["run"]
    told = {name: about.get(name) for name in ("inputs", "digest", "data_folder")}
    group.send_text(json.dumps({**told, "config": ready.config.to_dict("text")}))
    figures = cached_baselines(ready, reporter)
    if prepared is not None:
        prepared(ready, figures, run)
    with precision(ready.config.training.dtype):
        task = TextTask(ready.training, ready.held_out, ready.encoded.vocabulary, ready.config, group)
        facts = {**ready.facts, "baselines": figures}
        trainer = Trainer(task, network, ready.config.training, run, reporter=reporter, facts=facts, group=group)
        with interruptible(trainer):
            outcome = trainer.train(resume=resume)
    return TextRun(run.path, interrupted=outcome.ending == "interrupted")


def _starting_network(ready: Prepared, init: Path | str | None) -> Network:
    settings = ready.config.training
    with precision(settings.dtype):
        network = new_network(ready.config, ready.encoded.vocabulary.size, settings.seed)
        return network if init is None else with_classic_weights(network, Path(init))


def with_classic_weights(network: Network, path: Path) -> Network:
    """`network` with the weights of an `.npz` in the classic program's names and orientation.

    wxh [hidden, vocab], whh [hidden, hidden], why [vocab, hidden], bh [hidden, 1], by [vocab, 1]; the vocabulary in the order of
    its code points.

    Raises: `DataError` for a file that is none, lacks an array, or holds one of another shape.
    """
    cell, head = network.cells[0], network.head
    hidden, vocab = cell.hidden_size, head.bias.shape[0]
    if len(network.cells) != 1 or cell.gate_blocks != 1:
        raise DataError(
            "--init takes the classic program's weights, which are those of one Elman layer: use --cell elman --layers 1"
        )
    shapes = {
        "wxh": (hidden, vocab),
        "whh": (hidden, hidden),
        "why": (vocab, hidden),
        "bh": (hidden, 1),
        "by": (vocab, 1),
    }
    arrays = read_archive(path)
    for name, shape in shapes.items():
        if name not in arrays:
            raise DataError(f"--init {path} lacks the array {name!r}: it needs {', '.join(shapes)}")
        if arrays[name].shape != shape:
            raise DataError(
                f"--init {path}: {name} has the shape {arrays[name].shape}, but this network needs {shape}: "
                f"is --hidden right, and the text the same?"
            )
        if arrays[name].dtype.kind not in "fiu" or not np.isfinite(arrays[name]).all():
            raise DataError(f"--init {path}: {name} holds something else than finite numbers: write it again")
    dtype = cell.bias.dtype
    weights = {name: jnp.asarray(arrays[name].astype(dtype)) for name in shapes}
    return jax.tree.unflatten(
        jax.tree.structure(network),
        [weights["wxh"].T, weights["whh"].T, weights["bh"][:, 0], weights["why"].T, weights["by"][:, 0]],
    )


def cached_baselines(ready: Prepared, reporter: Reporter | None = None) -> dict[str, Any]:
    """The n-gram scores of the held-out part, computed once for each text and split and kept beside its codes."""
    if len(ready.held_out) == 0:
        return {"uniform": math.log(ready.encoded.vocabulary.size)}
    name = f"{ready.encoded.digest[:32]}-{len(ready.training)}.kneser-ney.json"
    path = default_cache_folder("text") / name
    try:
        cached = json.loads(path.read_bytes())
        if isinstance(cached, dict) and "uniform" in cached:
            return cached
    except (OSError, ValueError):
        pass
    reporter = reporter or Reporter()
    reporter.working("counting n-grams", 0.0)
    figures = baselines(ready.training, ready.held_out, ready.encoded.vocabulary.size)
    reporter.pause()
    with suppress(RunError):  # a cache that cannot be written costs the next start a few seconds, no more
        write_atomically(path, json.dumps(figures).encode())
    return figures


def _check_sizes(config: Config, training_symbols: int) -> None:
    """Refuse what would fill the memory, or what the text is too short for, before anything is made."""
    settings, network = config.training, config.network
    assert settings.batch is not None
    assert settings.unroll is not None
    assert network.hidden is not None
    if training_symbols < settings.unroll + 2:
        raise DataError(
            f"the training part has {training_symbols} symbols, but --unroll {settings.unroll} needs at least "
            f"{settings.unroll + 2}: give more text or a smaller --unroll"
        )
    gates = CELLS[network.cell].gate_blocks
    bytes_each = 8 if settings.dtype == "float64" else 4
    weights = network.layers * 2 * gates * network.hidden**2
    activations = settings.batch * settings.unroll * network.hidden * (3 * gates + 4) * network.layers
    needed = bytes_each * (4 * weights + activations)
    if needed > _memory_bytes():
        raise DataError(
            f"a network of {network.layers} x {network.hidden} units with {settings.batch} sequences of {settings.unroll} steps "
            f"needs about {needed / 2**30:.0f} GiB of memory, and this machine has {_memory_bytes() / 2**30:.0f}: "
            f"choose a smaller --hidden, --layers, --batch or --unroll"
        )


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 2**62


@contextmanager
def _with_standard_input(inputs: Sequence[str | Path], run_path: Path) -> Iterator[list[str | Path]]:
    """Standard input is kept in the run folder, so that the run can go on from it later; if no run is made, nothing stays."""
    if "-" not in inputs:
        yield list(inputs)
        return
    try:
        if run_path.exists() and (not run_path.is_dir() or any(run_path.iterdir())):
            raise RunError(f"{run_path} is there already and not an empty folder: name another folder with --run")
    except OSError as error:
        raise RunError(f"cannot make the run folder {run_path}: {error.strerror}; name another with --run") from None
    kept = run_path / "input.txt"
    try:
        spool_standard_input(kept, sys.stdin.buffer)
        yield [kept if source == "-" else source for source in inputs]
    except BaseException:
        with suppress(OSError):
            kept.unlink(missing_ok=True)
            run_path.rmdir()
        raise


def _absolute(source: str | Path) -> str | Path:
    """A path made absolute, so that a run resumes from any folder; the name of a corpus stays as it is."""
    path = Path(source)
    return path.absolute() if path.exists() or any(c in str(source) for c in "*?[/") else source


def _run_name(inputs: Sequence[str | Path], preset: str | None) -> str:
    """A short name for a run's folder, from its first input."""
    stem = Path(str(inputs[0]).rstrip("/")).name.split(".")[0] if inputs[0] != "-" else "input"
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in stem).strip("-") or "text"
    return f"{stem[:40]}-{preset}" if preset else stem[:40]
