"""Writes the golden bundle of the current format. Run once for each new format, never again: old files must keep loading.

    python tests/golden/make_golden.py
"""

import json
from pathlib import Path

from elman.text.model import TextModel
from elman.training.storage import FORMAT

TEXT = "the cat sat on the mat. گربه روی فرش نشست.\n"

if __name__ == "__main__":
    folder = Path(__file__).parent
    model = TextModel.untrained(TEXT, seed=7, cell="gru", hidden=6, layers=2, layer_norm=True, residual=True)
    model.save(folder / f"format-{FORMAT}-text.safetensors")
    outputs = {
        "text": TEXT,
        "nats_per_character": model.evaluate(TEXT)["nats_per_character"],
        "likeliest": model.sample("the ", length=20, temperature=0.0, seed=0),
    }
    (folder / f"format-{FORMAT}-text.json").write_text(json.dumps(outputs, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
