"""Run the notebooks of this folder and keep what they show: `python docs/notebooks/execute.py [NAME ...]`.

Each runs in an empty folder with the data that `ELMAN_DATA` names, and is written back with its outputs (text and pictures; at most
300 KB a notebook). Look at them before they are committed. About six minutes for all of them.
"""

import argparse
import asyncio
import base64
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import nbclient
import nbformat
from PIL import Image
from traitlets.config import Config

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.ipynb")))
MOST_BYTES, MOST_OF_A_PICTURE = 300_000, 70_000


def execute(name: str, folder: Path, *, parameters: dict[str, Any] | None = None, ask: str = "") -> tuple[Any, str]:
    """The notebook with its outputs, and what the expression `ask` says at its end.

    folder: where it runs. parameters: instead of those in the cell that is tagged so; a name that is not there is a `KeyError`.
    """
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    cells = list(notebook.cells)
    place = next(number for number, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", ()))
    known = {line.split(" = ")[0] for line in cells[place].source.splitlines()}
    if unknown := set(parameters or {}) - known:
        raise KeyError(f"{name} has no parameters {sorted(unknown)}: there are {sorted(known)}")
    lines = [f"{key} = {value!r}" for key, value in (parameters or {}).items()]
    notebook.cells = [
        *cells[: place + 1],
        nbformat.v4.new_code_cell("\n".join(lines)),
        *cells[place + 1 :],
        nbformat.v4.new_code_cell(f"print({ask or None!s})"),
    ]
    with tempfile.TemporaryDirectory(prefix="elman") as sockets:
        # The kernel is spoken to through files of this user and not through a port; Windows has no such files.
        kernel = {"transport": "ipc" if os.name == "posix" else "tcp", "connection_file": f"{sockets}/kernel.json"}
        client = nbclient.NotebookClient(
            notebook,
            timeout=1200,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": str(folder)}},
            config=Config({"KernelManager": kernel}),
        )
        asyncio.run(client.async_execute())
    said = "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
    notebook.cells = cells
    return notebook, said


def smaller(picture: str) -> str:
    """A PNG in base64 with few colors, and in fewer points as far as it has to be to take no more than `MOST_OF_A_PICTURE`."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    small = ""
    for widest, colors in ((960, 96), (800, 48), (720, 16), (640, 16)):
        width = min(widest, image.width)
        file = io.BytesIO()
        scaled = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
        scaled.quantize(colors, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
        small = base64.b64encode(file.getvalue()).decode()
        if len(small) <= MOST_OF_A_PICTURE:
            break
    return small


def merged(outputs: list[Any]) -> list[Any]:
    """The outputs of a cell with neighboring pieces of one stream as one."""
    result: list[Any] = []
    for output in outputs:
        if result and output.output_type == "stream" and output.get("name") == result[-1].get("name"):
            result[-1].text += output.text
        else:
            result.append(output)
    return result


def tidied(notebook: Any) -> Any:
    """Only what belongs to the notebook: nothing of this machine, cells numbered in their order, small pictures, whole streams."""
    numbers = iter(range(1, len(notebook.cells) + 1))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = next(numbers)
            cell.outputs = merged(cell.outputs)
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = cell.execution_count
                if picture := output.get("data", {}).get("image/png"):
                    output.data["image/png"] = smaller(picture)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def main() -> None:
    """Run the named notebooks, or all, and write them back."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    chosen = parser.parse_args().names or NAMES
    data = os.environ.get("ELMAN_DATA")
    folder_of_data = Path(data).absolute() if data else None
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            if folder_of_data is not None:  # so that what is kept names no folder of this machine
                (Path(folder) / "data").symlink_to(folder_of_data, target_is_directory=True)
                os.environ["ELMAN_DATA"] = "data"
            notebook, _ = execute(name, Path(folder))
        path = FOLDER / f"{name}.ipynb"
        nbformat.write(tidied(notebook), path)
        size = path.stat().st_size
        print(f"{path.name}: {size / 1000:.0f} KB{'' if size <= MOST_BYTES else ', TOO LARGE'}")


if __name__ == "__main__":
    main()
