"""The same recurrences and the same head, compiled for this processor; never the only version (`recurrence.py` holds the scan).

`library` finds and loads the compiled part, `calls` hands JAX's arrays to it. The arithmetic is in the C++ files beside them.
"""

from elman.network.kernels import calls, library
from elman.network.kernels.library import Status, status, usable

__all__ = ["Status", "calls", "library", "status", "usable"]
