"""The configuration: settings (every section and field) -> reader (YAML and --set to one frozen Config)."""

from mmsrarec.config.reader import load
from mmsrarec.config.settings import BUNDLED_MODEL, Config, Csv, CsvFiles, Publish, Retrieve, Run, Sasrec

__all__ = ["BUNDLED_MODEL", "Config", "Csv", "CsvFiles", "Publish", "Retrieve", "Run", "Sasrec", "load"]
