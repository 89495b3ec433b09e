"""A folder that computes with plain Python and NumPy: `model.json`, `weights.npz` (no pickle) and `model.py`, which reads both."""

import importlib.resources
import io
import json
from pathlib import Path

import numpy as np

from elman.shipping.parts import Parts
from elman.training.storage import write_atomically


def write_numpy(parts: Parts, folder: Path) -> None:
    """Write the three files into `folder`, which is made where it is not there. Raises: `RunError` where the system refuses."""
    folder.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **parts.arrays)
    program = importlib.resources.files("elman.shipping.portable").joinpath("model.py").read_bytes()
    write_atomically(folder / "weights.npz", packed.getvalue())
    write_atomically(folder / "model.py", program)
    write_atomically(folder / "model.json", json.dumps(parts.facts, ensure_ascii=False, indent=1).encode())
