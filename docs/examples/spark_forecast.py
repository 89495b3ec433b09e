"""Forecasts of many series on Spark: Parquet in, Parquet out.

spark-submit spark_forecast.py sales.safetensors SERIES_FOLDER FORECASTS_FOLDER
"""

import argparse

from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from elman.series.arrow_batches import BatchForecaster


def main() -> None:
    """Read, forecast, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", help="the saved forecaster, at the same place on every node")
    parser.add_argument("series", help="Parquet files with a row for each series and time")
    parser.add_argument("forecasts", help="the folder to write to")
    parser.add_argument("--column", default="unique_id", help="what tells series apart")
    parser.add_argument("--time", default="ds", help="the column with the times")
    parser.add_argument("--parts", type=int, default=8, help="parts, each of which is forecast by one task")
    parsed = parser.parse_args()
    forecaster = BatchForecaster(parsed.bundle)
    spark = SparkSession.builder.appName("forecasts").getOrCreate()
    rows = spark.read.parquet(parsed.series)
    # Spark cuts a part into batches of 10,000 rows; sorted, a series that is cut goes on in the next batch.
    whole = rows.repartition(parsed.parts, parsed.column).sortWithinPartitions(parsed.column, parsed.time)
    forecasts = whole.mapInArrow(forecaster, from_arrow_schema(forecaster.schema))
    forecasts.write.mode("overwrite").parquet(parsed.forecasts)
    spark.stop()


if __name__ == "__main__":
    main()
