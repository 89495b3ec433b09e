"""One peer of `forecasting_peers.py`, run by the peers' own Python; knows nothing of elman.

    python forecasting_peers_worker.py NAME TASK.npz SECONDS [THREADS]

TASK.npz: values [rows, columns] standardised by the training rows, with no gaps; column 0 is the target; training, validation and
test: origins, each with its truth (scaled, too); horizon; lookback. Trains for SECONDS on the clock, which counts everything but
imports: compilation, updates and ten validations, each of every 7th origin, because all of them would cost the larger networks a
minute; the weights that were best then forecast all of validation and test, uncounted. The last line of the output is JSON:
validations [[seconds, mean absolute error, scaled], ...], final_validation, updates, parameters, forecasts per second, versions.
The test forecasts (scaled) are written to TASK.npz.NAME.npy.
"""

import json
import os
import sys
import time
from importlib import metadata
from typing import Any

import numpy as np

VALIDATIONS = 10
SOME = slice(None, None, 7)
"""Which validation origins are asked while training: 7 hours apart, so that every hour of the day is among them."""

BATCH = 256


def keras_lstm(task: Any, seconds: float, loss: str) -> dict[str, Any]:
    """LSTM(32) and Dense(1) on windows, Adam with learning rate 1e-3, batches of 256: the network of the Keras.io example.

    Its `timeseries_dataset_from_array` needs TensorFlow; the same shuffled windows are gathered here by one line of NumPy.
    """
    import keras

    keras.utils.set_random_seed(0)
    values, horizon, lookback = task["values"], int(task["horizon"]), int(task["lookback"])
    back = np.arange(-lookback + 1, 1)
    generator = np.random.default_rng(0)

    def windows(origins: np.ndarray) -> np.ndarray:
        return values[origins[:, None] + back]

    class Epoch(keras.utils.PyDataset):
        """Some batches of shuffled windows."""

        def __init__(self, origins: np.ndarray) -> None:
            super().__init__()
            self.origins = origins

        def __len__(self) -> int:
            return len(self.origins) // BATCH

        def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
            chosen = self.origins[number * BATCH : (number + 1) * BATCH]
            return windows(chosen), values[chosen + horizon, :1]

    inputs = keras.layers.Input(shape=(lookback, values.shape[1]))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.LSTM(32)(inputs)))
    model.compile(optimizer=keras.optimizers.Adam(learning_rate=1e-3), loss=loss)

    def forecast(origins: np.ndarray) -> np.ndarray:
        pieces = [origins[first : first + 2048] for first in range(0, len(origins), 2048)]
        # The last piece is filled up, so that one shape is compiled.
        filled = [np.resize(piece, 2048) for piece in pieces]
        answers = [model.predict_on_batch(windows(piece)) for piece in filled]
        return np.concatenate([answer[: len(piece), 0] for answer, piece in zip(answers, pieces, strict=True)])

    curve: list[list[float]] = []
    best, updates, per_update = None, 0, 0.0
    order = np.zeros(0, np.int64)
    began = time.perf_counter()
    while (now := time.perf_counter() - began) < seconds:
        # Half of the way to the next tenth of the time; the first updates compile, the next tell the speed.
        left = seconds * min(1.0, (len(curve) + 1) / VALIDATIONS) - now
        count = int(np.clip(0.5 * left / per_update, 1, 10_000)) if per_update else 2
        while len(order) < count * BATCH:
            order = np.concatenate([order, generator.permutation(task["training"])])
        chosen, order = order[: count * BATCH], order[count * BATCH :]
        start = time.perf_counter()
        model.fit(Epoch(chosen), epochs=1, verbose=0, shuffle=False)
        per_update = (time.perf_counter() - start) / count if updates else 0.0
        updates += count
        if time.perf_counter() - began >= seconds * (len(curve) + 1) / VALIDATIONS:
            error = float(np.abs(forecast(task["validation"][SOME]) - task["validation_truth"][SOME]).mean())
            curve.append([time.perf_counter() - began, error])
            if best is None or error < best[0]:
                best = error, model.get_weights()
    total = time.perf_counter() - began
    assert best is not None
    model.set_weights(best[1])
    return {
        "validations": curve,
        "updates": updates,
        "parameters": int(model.count_params()),
        "seconds": total,
        "forecasts_per_second": updates * BATCH / total,
        "validation": forecast(task["validation"]),
        "test": forecast(task["test"]),
        "backend": keras.backend.backend(),
    }


def neuralforecast_model(task: Any, seconds: float, kind: str, **sizes: int) -> dict[str, Any]:
    """neuralforecast's GRU or LSTM, direct, learning rate 1e-3, all columns as historic covariates.

    sizes: of the network; none given: as it comes, 2 layers of 200 units, which on two cores make about one update a second.
    Its loss is the absolute error of the whole path of 24 steps. It is trained by `NeuralForecast.fit`; forecasts are asked of the
    fitted module directly, for `cross_validation` would write 420,000 rows of a frame; its own scaler is off, because the columns
    are standardised already.
    """
    import logging
    import warnings

    import pandas
    import torch
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MAE
    from neuralforecast.models import GRU, LSTM
    from pytorch_lightning.callbacks import Callback

    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    values, horizon, lookback = task["values"], int(task["horizon"]), int(task["lookback"])
    covariates = [f"column {number}" for number in range(1, values.shape[1])]
    back = np.arange(-lookback + 1, 1)

    def forecast(module: Any, origins: np.ndarray) -> np.ndarray:
        was_training = module.training
        module.eval()
        answers = []
        with torch.inference_mode():
            for first in range(0, len(origins), 2048):
                window = torch.from_numpy(values[origins[first : first + 2048][:, None] + back])
                batch = {
                    "insample_y": window[..., :1],
                    "insample_mask": torch.ones_like(window[..., :1]),
                    "hist_exog": window[..., 1:],
                    "futr_exog": None,
                    "stat_exog": None,
                }
                answers.append(module(batch)[:, horizon - 1, 0].numpy())
        module.train(was_training)
        return np.concatenate(answers)

    class Watch(Callback):
        """Stops at the end of the time; validates at every tenth of it and keeps the best weights."""

        def __init__(self) -> None:
            self.began, self.curve, self.best, self.updates = time.perf_counter(), [], None, 0

        def __deepcopy__(self, memory: Any) -> Any:
            """`NeuralForecast` trains a copy of the model: this one must hear of it."""
            return self

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            self.updates += 1
            elapsed = time.perf_counter() - self.began
            if elapsed >= seconds * (len(self.curve) + 1) / VALIDATIONS:
                error = float(
                    np.abs(forecast(module, task["validation"][SOME]) - task["validation_truth"][SOME]).mean()
                )
                self.curve.append([time.perf_counter() - self.began, error])
                if self.best is None or error < self.best[0]:
                    self.best = error, {name: tensor.clone() for name, tensor in module.state_dict().items()}
            if elapsed >= seconds:
                trainer.should_stop = True
                trainer.fit_loop.epoch_loop.max_steps = trainer.global_step

    # Rows behind the training part are not given: nothing can leak.
    last = int(task["training"].max()) + horizon + 1
    frame = pandas.DataFrame(values[:last], columns=["y", *covariates])
    frame.insert(0, "ds", pandas.date_range("2009-01-01", periods=last, freq="h"))
    frame.insert(0, "unique_id", "jena")
    watch = Watch()
    model = {"GRU": GRU, "LSTM": LSTM}[kind](
        h=horizon,
        input_size=lookback,
        hist_exog_list=covariates,
        loss=MAE(),
        max_steps=10_000_000,
        val_check_steps=10_000_000,
        windows_batch_size=128,
        scaler_type="identity",
        random_seed=0,
        **sizes,
        callbacks=[watch],
        accelerator="cpu",
        enable_progress_bar=False,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    whole = NeuralForecast(models=[model], freq="h")
    began = watch.began = time.perf_counter()
    whole.fit(frame)
    total = time.perf_counter() - began
    fitted = whole.models[0]
    if watch.best is not None:
        fitted.load_state_dict(watch.best[1])
    return {
        "validations": watch.curve,
        "updates": watch.updates,
        "parameters": sum(weights.numel() for weights in fitted.parameters()),
        "seconds": total,
        "forecasts_per_second": watch.updates * 128 / total,
        "validation": forecast(fitted, task["validation"]),
        "test": forecast(fitted, task["test"]),
        "backend": "torch",
    }


SMALL = {"encoder_n_layers": 1, "encoder_hidden_size": 64, "decoder_hidden_size": 64}
"""What suits two cores and some minutes better than the default sizes."""

PEERS = {
    "keras-lstm": lambda task, seconds: keras_lstm(task, seconds, "mse"),
    "keras-lstm-mae": lambda task, seconds: keras_lstm(task, seconds, "mae"),
    "neuralforecast-gru": lambda task, seconds: neuralforecast_model(task, seconds, "GRU", **SMALL),
    "neuralforecast-lstm": lambda task, seconds: neuralforecast_model(task, seconds, "LSTM", **SMALL),
    "neuralforecast-gru-200": lambda task, seconds: neuralforecast_model(task, seconds, "GRU"),
}


def main() -> None:
    """Train one peer, print its figures."""
    name, path, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    threads = sys.argv[4] if len(sys.argv) > 4 else "2"
    os.environ["OMP_NUM_THREADS"] = threads
    os.environ.setdefault("KERAS_BACKEND", "jax")
    if name.startswith("neuralforecast") or os.environ["KERAS_BACKEND"] == "torch":
        import torch

        torch.set_num_threads(int(threads))
    task = np.load(path)
    task = {key: task[key] for key in task.files}
    figures = PEERS[name](task, seconds)
    figures["final_validation"] = float(np.abs(figures.pop("validation") - task["validation_truth"]).mean())
    np.save(f"{path}.{name}.npy", figures.pop("test"))
    versions = {}
    for package in ("keras", "neuralforecast", "torch", "jax", "jaxlib", "pytorch-lightning", "numpy"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    print(json.dumps({**figures, "versions": versions}))


if __name__ == "__main__":
    main()
