"""Archives of arrays as `numpy.savez` writes them, read with as little faith as every other file.

NumPy's own reader takes whatever memory an array's header or the archive's table of contents asks for.
"""

import io
import math
import stat
import zipfile
from pathlib import Path

import numpy as np

from elman.errors import DataError

MOST_TIMES_PACKED = 20
"""How much larger than the file its arrays may be: `numpy.savez_compressed` makes weights hardly smaller at all."""


_LITTLE = 1 << 20


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz`, by name. Objects are refused, so that nothing in the file is ever executed.

    Raises: `DataError` for a file that is none, is damaged, or unpacks to more than `MOST_TIMES_PACKED` times its size.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no file")
        allowed = MOST_TIMES_PACKED * status.st_size + _LITTLE
        with zipfile.ZipFile(path) as packed:
            members = packed.infolist()
            unpacked = sum(member.file_size for member in members)
            if unpacked > allowed:
                raise ValueError(f"it unpacks to {unpacked:,} bytes, more than {MOST_TIMES_PACKED} times its size")
            return {member.filename.removesuffix(".npy"): _array(packed.read(member)) for member in members}
    except Exception as error:  # zipfile and NumPy's reader say in a dozen ways that a file is damaged
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(
            f"--init {path} cannot be read as an .npz file of arrays: {reason}; write it with numpy.savez"
        ) from None


def _array(data: bytes) -> np.ndarray:
    """One array, its header looked at before memory is taken."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array in it is of NumPy's format {version[0]}.{version[1]}")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize > len(data) - file.tell():
        raise ValueError(f"an array in it has the shape {shape}, larger than what is there")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)
