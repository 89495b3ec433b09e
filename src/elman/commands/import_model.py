"""`elman import`: a text model of another framework as a bundle, compared with its file before it is there."""

import argparse
from pathlib import Path

from elman.commands.output import print_json, reporting
from elman.errors import ConfigError, RunError
from elman.shipping.importing import bring_in
from elman.shipping.symbols import read_symbols
from elman.training.engine import use_compilation_cache

ENDING = ".safetensors"


def run(parsed: argparse.Namespace) -> int:
    """Import, compare, print what was compared."""
    output = _checked(Path(parsed.output), parsed.force)
    use_compilation_cache()
    with reporting(quiet=parsed.quiet) as reporter:
        symbols = None if parsed.vocabulary is None else read_symbols(Path(parsed.vocabulary))
        reporter.working(f"reading {parsed.file}, writing and comparing {output}", 0.0)
        arrived = bring_in(Path(parsed.file), output, symbols=symbols, activation=parsed.activation, force=parsed.force)
    network = arrived.model.config.network
    if parsed.json:
        print_json(
            {
                "file": parsed.file,
                "kind": arrived.kind,
                "bundle": str(arrived.path),
                "cell": network.cell,
                "layers": network.layers,
                "hidden": network.hidden,
                "symbols": arrived.model.vocabulary.size,
                "compared_by": arrived.by,
                "compared": [
                    {"input": found.what, "steps": found.steps, "largest_difference": found.largest}
                    for found in arrived.comparisons
                ],
            }
        )
        return 0
    layers = "1 layer" if network.layers == 1 else f"{network.layers} layers"
    print(
        f"found:     {arrived.kind}: {network.cell}, {layers} of {network.hidden} units, "
        f"{arrived.model.vocabulary.size} symbols"
    )
    for comparison in arrived.comparisons:
        print(
            f"compared:  with {arrived.by}, {comparison.steps:,} steps of {comparison.what}: "
            f"largest difference {comparison.largest:.1e}"
        )
    print(f"written:   {arrived.path}")
    return 0


def _checked(output: Path, force: bool) -> Path:
    """The path, whose ending is a bundle's. Raises: `ConfigError` for another ending, `RunError` for what is there already."""
    if output.suffix.lower() != ENDING:
        raise ConfigError(f"--output {output} is no bundle's name: end it with {ENDING}")
    if output.is_dir() or (output.exists() and not force):
        raise RunError(
            f"{output} is there already: " + ("give a file's name" if output.is_dir() else "--force replaces it")
        )
    if not output.parent.is_dir():
        raise RunError(f"the folder {output.parent} is not there: make it first")
    return output
