"""Forecasts of many series on Ray Data: Parquet in, Parquet out.

python ray_forecast.py sales.safetensors SERIES_FOLDER FORECASTS_FOLDER
"""

import argparse

import ray

from elman.series.arrow_batches import BatchForecaster


def main() -> None:
    """Read, forecast, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", help="the saved forecaster, at the same place on every node")
    parser.add_argument("series", help="Parquet files with a row for each series and time")
    parser.add_argument("forecasts", help="the folder to write to")
    parser.add_argument("--column", default="unique_id", help="what tells series apart")
    parser.add_argument("--blocks", type=int, default=8, help="parts, each of which is forecast by one worker")
    parsed = parser.parse_args()
    forecaster = BatchForecaster(parsed.bundle)
    rows = ray.data.read_parquet(parsed.series)
    # Rows with the same key come into the same block, and a batch without a size is a whole block.
    whole = rows.repartition(parsed.blocks, keys=[parsed.column])
    forecasts = whole.map_batches(forecaster, batch_format="pyarrow", batch_size=None)
    forecasts.write_parquet(parsed.forecasts)


if __name__ == "__main__":
    main()
