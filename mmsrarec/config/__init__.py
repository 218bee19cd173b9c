"""The configuration: section -> data, models, tuning, evaluation, nights (every section and field) -> settings (all of
it) -> reader (YAML and --set to one frozen Config)."""

from mmsrarec.config.data import Csv, CsvFiles, Run
from mmsrarec.config.models import Fusion, Recommend, Retrieve, Sasrec
from mmsrarec.config.nights import Publish
from mmsrarec.config.reader import at, load
from mmsrarec.config.settings import BUNDLED_MODEL, Config
from mmsrarec.config.tuning import TuneRecommender, TuneSummarizer, Tuning

__all__ = [
    "BUNDLED_MODEL", "Config", "Csv", "CsvFiles", "Fusion", "Publish", "Recommend", "Retrieve",
    "Run", "Sasrec", "TuneRecommender", "TuneSummarizer", "Tuning", "at", "load",
]  # fmt: skip
