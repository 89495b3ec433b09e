"""Every benchmark, one after the other: nothing else should run on the machine meanwhile.

make bench                              about ten minutes
"""

import subprocess
import sys
from pathlib import Path

SCRIPTS = ("startup", "recurrence", "classic", "sampling", "memory", "shakespeare")

if __name__ == "__main__":
    for script in SCRIPTS:
        print(f"== {script}", flush=True)
        subprocess.run([sys.executable, Path(__file__).parent / f"{script}.py"], check=True)
