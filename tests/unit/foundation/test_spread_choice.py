"""Where data work runs is what the settings say."""

from pathlib import Path

import pytest

from churn.foundation.spark.on_spark import OnSpark
from churn.foundation.spark.session import SparkPlace
from churn.foundation.spread import Here
from churn.foundation.spread_choice import choose_spread
from churn.settings import Settings, SettingsError

SALT = "a salt of sixteen"


def test_by_default_it_is_this_machine() -> None:
    """With the cores and the memory of the settings."""
    settings = Settings.load(bucket_salt=SALT, cores=3, duckdb_memory_limit="2GB")
    assert choose_spread(settings) == Here(3, "2GB")


def test_it_may_be_a_cluster(tmp_path: Path) -> None:
    """Work on few parts still runs on this machine."""
    settings = Settings.load(
        bucket_salt=SALT,
        spread="spark",
        spark_master="spark://one:7077",
        spark_conf=str(tmp_path / "spark.conf"),
        spark_parts=4,
        spark_secret="shared",
        cores=1,
    )
    place = SparkPlace("spark://one:7077", tmp_path / "spark.conf", "shared")
    assert choose_spread(settings) == OnSpark(place, Here(1, "1GB"), 4)


@pytest.mark.parametrize("master", ["one:7077", "localhost", "local[x]"])
def test_another_master_is_refused(master: str) -> None:
    """With the name of the setting."""
    with pytest.raises(SettingsError, match="CHURN_SPARK_MASTER"):
        Settings.load(bucket_salt=SALT, spark_master=master)
