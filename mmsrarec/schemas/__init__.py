"""The tables: what a row is, its key, and the columns with type and meaning. The contract with downstream readers.

Every table is a Delta table under `lake.root`. Strings are UTF-8, timestamps are UTC microseconds, and lists that
belong together (`item_ids`, `timestamps`) have the same length and order. No table uses a reader feature of Delta, so
Spark, delta-rs, DuckDB and pandas all read them. docs/tables.md has all of it, by `make docs`.
"""

import pyarrow as pa

from mmsrarec.schemas.records import RECORDS
from mmsrarec.schemas.results import RESULTS
from mmsrarec.schemas.table import Table

CONTRACT: dict[str, Table] = RESULTS | RECORDS

TABLES: dict[str, pa.Schema] = {name: table.schema for name, table in CONTRACT.items()}
KEYS: dict[str, tuple[str, ...]] = {name: table.key for name, table in CONTRACT.items()}
PARTITIONS: dict[str, list[str]] = {name: table.partitions for name, table in CONTRACT.items() if table.partitions}

# The stage that makes what another one reads: tables, the checkpoint (sasrec) and the index (training_users).
MADE_BY: dict[str, str] = {name: table.writers[0] for name, table in CONTRACT.items() if len(table.writers) == 1}
MADE_BY |= {"sasrec": "train_sasrec", "training_users": "index_cf"}
