"""Stage index_cf: the vectors of training users in Milvus, each with what its user took next. The only pymilvus import.

A vector is the state of a network (retrieve.similar_by) after a user's history up to some position, scaled to length 1;
its row holds the item that came next. A user goes in at its latest `index.positions`, since users may be alike at
different times. A version is a collection of its own: it is filled, counted, compared with exact search and only then
named by the alias `index.collection`. Milvus Lite keeps a folder in the lake that one process at a time can open;
`index.uri` names a Milvus server instead.
"""

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from milvus_lite.adapter.grpc.server import start_server_in_thread
from milvus_lite.exceptions import DataDirLockedError, MilvusLiteError
from pymilvus import DataType, MilvusClient, MilvusException

from mmsrarec import log, redact
from mmsrarec.collaborative import checkpoint, embed
from mmsrarec.collaborative.exact import DEPTH, Exact
from mmsrarec.config import Config
from mmsrarec.errors import ConfigError, InputError, UserError, explains, shortened
from mmsrarec.progress import Progress
from mmsrarec.storage import files, guard, runs

METRIC = "IP"  # of vectors of length 1, so the cosine
MAX_ID_BYTES = 65_535  # Milvus's own limit of a varchar
INSERT_ROWS = 4096
ANSWER_SECONDS = 5.0  # that a server may take to say its version
EXACT_UP_TO = 100_000  # rows; a larger collection gets an inverted file, which is approximate but repeatable


@explains(MilvusException, MilvusLiteError)
def _told(error: MilvusException | MilvusLiteError) -> UserError:
    return UserError(
        f"Milvus: {_said(error)}; check that the server of index.uri is up and has room, then run again (without "
        "index.uri it is the folder index/ of the lake: delete that if it is damaged, and run index_cf again)"
    )


def _said(error: Exception) -> str:
    return shortened(getattr(error, "message", None) or error)


class Neighbor(NamedTuple):
    """A training user near the query at one of its positions. similarity is the cosine."""

    user_id: str
    similarity: float
    next_item_id: str


def index_cf(config: Config, run_id: str) -> None:
    """Fill a collection from the training users of `histories` and swap the alias; skip where it would be the same."""
    with runs.stage(config, "index_cf", run_id, ("histories", "sasrec")) as stage:
        histories = embed.read_histories(config)
        trained = checkpoint.load(checkpoint.folder(config.similar_network))
        rows = indexed_rows(histories, config.index.positions, everybody=config.evaluation.part is not None)
        version = version_of(config.index.collection, trained.model_hash, rows)
        with UserIndex(config) as index:
            if index.version == version:
                log.say("index_cf: nothing has changed, the index stays", "unchanged")
                stage.notes["skipped"] = "unchanged inputs"
            else:
                with Progress("index_cf", total=rows.num_rows, unit="positions") as progress:
                    index.build(version, trained.model.items.embedding_dim, _vectors(trained, rows, progress))
        stage.rows_in, stage.rows_out = histories.num_rows, rows.num_rows
        name = "sasrec" if config.similar_network is config else config.similar_network.sasrec.name
        stage.versions |= {name: trained.model_hash, "index_version": version}


def indexed_rows(histories: pa.Table, positions: int, everybody: bool = False) -> pa.Table:
    """user_id, item_ids before a position, next_item_id at it: the latest `positions` of each training user that have
    something before them, a user's latest first; `everybody`: of the training part of all histories."""
    training = pc.equal(histories["split"], "train")
    rows = embed.training_part(histories if everybody else histories.filter(training))
    parts = []
    for _ in range(positions):
        rows = rows.filter(pc.greater_equal(pc.list_value_length(rows["item_ids"]), 2))
        before, last = embed.before_last(rows["item_ids"], np.ones(rows.num_rows, bool))
        rows = pa.table({"user_id": rows["user_id"], "item_ids": before})
        parts.append(rows.append_column("next_item_id", last))
    return pa.concat_tables(parts).combine_chunks()


def server_version(config: Config) -> str:
    """Version of the Milvus server at index.uri; raises UserError where it does not answer in a few seconds."""
    client = None
    try:
        with _quiet():
            client = MilvusClient(uri=config.index.uri, token=_token(config), timeout=ANSWER_SECONDS)
            return client.get_server_version(timeout=ANSWER_SECONDS)
    except (MilvusException, OSError) as error:
        raise UserError(f"{config.index.uri}: does not answer ({error}); see index.token_env") from None
    finally:
        if client:
            client.close()


def _token(config: Config) -> str:
    token = os.environ.get(config.index.token_env or "", "")
    redact.hide(token)
    return token


def version_of(collection: str, model_hash: str, rows: pa.Table) -> str:
    """Name of the collection that these rows and this model make."""
    digest = hashlib.sha256(repr(rows.schema).encode())
    for batch in rows.to_batches(max_chunksize=INSERT_ROWS):
        digest.update(repr(batch.to_pydict()).encode())
    return f"{collection}_{model_hash}_{digest.hexdigest()[:12]}"


class UserIndex:
    """The collection behind the alias. Use as a context manager: Milvus Lite stays locked until it is closed.

    Raises UserError where another process holds the folder or the server cannot be reached.
    """

    def __init__(self, config: Config):
        self.alias, self._root = config.index.collection, config.lake.root
        self._probe, self._min_recall = config.index.probe, config.index.min_recall
        self._client: Any = None
        self._server: Any = None
        self._database: Any = None
        self._rows = 0
        uri = config.index.uri or config.table("index/milvus.db")
        if config.index.uri is None and not files.is_local(uri):
            raise ConfigError(f"{uri}: Milvus Lite needs a disk; set index.uri to a Milvus server or a local folder")
        try:
            with _quiet():
                at = self._serve(Path(uri)) if files.is_local(uri) else uri
                self._client = MilvusClient(uri=at, token=_token(config))
                self.version = self._version()
        except DataDirLockedError:
            raise UserError(
                f"{uri}: another process holds the Milvus Lite folder; wait until it ends, or run a Milvus server and "
                "set index.uri"
            ) from None
        except (MilvusException, MilvusLiteError, OSError) as error:
            self.close()
            raise UserError(
                f"{uri}: cannot open the index ({_said(error)}); check index.uri and index.token_env"
            ) from None
        if self.version:
            self._client.load_collection(self.version)
            self._rows = self._count(self.version)

    def __enter__(self) -> "UserIndex":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        if self._server is not None:
            self._server.stop(grace=2).wait()
            self._database.close()
        self._client = self._server = self._database = None

    def require(self, model_hash: str) -> None:
        """Raise InputError unless the vectors in the index are those of this network."""
        if self.version is None:
            raise InputError(f"{self.alias}: no such index; run index_cf first")
        if not self.version.startswith(f"{self.alias}_{model_hash}_"):
            raise InputError(
                f"{self.version}: made with another network than the checkpoint {model_hash}; run index_cf"
            )

    def build(self, version: str, dim: int, batches: Iterator[tuple[list[str], list[str], np.ndarray]]) -> None:
        """Fill the collection `version` with (user_ids, next_item_ids, vectors), swap the alias, drop the old ones.

        Raises UserError, and leaves the alias where it is, where rows are missing or searches miss too much.
        """
        if self._client.has_collection(version):
            self._client.drop_collection(version)
        schema = self._client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("user_id", DataType.VARCHAR, max_length=MAX_ID_BYTES)
        schema.add_field("next_item_id", DataType.VARCHAR, max_length=MAX_ID_BYTES)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        self._client.create_collection(version, schema=schema)
        count, exact = 0, Exact()
        for users, items, vectors in batches:
            columns = zip(range(count, count + len(users)), users, items, vectors, strict=True)
            names = ("id", "user_id", "next_item_id", "vector")
            self._client.insert(version, [dict(zip(names, row, strict=True)) for row in columns])
            count += len(users)
            exact.add(vectors)
        try:
            self._finish(version, count)
            self._check(version, count, exact)
        except UserError:
            self._client.drop_collection(version)
            raise
        guard.check(self._root)
        self._swap(version)
        self._rows = count

    def search(self, vectors: np.ndarray, k: int) -> list[list[Neighbor]]:
        """The k nearest positions of training users of each row of vectors [n, dim], nearest first, ties by user_id
        and item. A user may come more than once."""
        if not len(vectors) or k < 1 or self._rows == 0 or self.version is None:
            return [[] for _ in vectors]
        hits = self._hits(self.version, vectors, k, self._rows)
        return [sorted(map(_neighbor, row), key=lambda near: (-near.similarity, *near[::2])) for row in hits]

    def _hits(self, version: str, vectors: np.ndarray, k: int, rows: int) -> list[list[dict]]:
        return self._client.search(
            version,
            list(vectors),
            limit=k,
            output_fields=["user_id", "next_item_id"],
            search_params={"metric_type": METRIC, "params": {"nprobe": max(8, int(_lists(rows) * self._probe))}},
        )

    def _check(self, version: str, count: int, exact: Exact) -> None:
        if not count:
            return
        found = self._hits(version, exact.queries, DEPTH, count)
        recall = exact.recall([[hit["distance"] for hit in row] for row in found])
        if recall < self._min_recall:
            raise UserError(
                f"{version}: searches find {recall:.3f} of the exact nearest positions, index.min_recall="
                f"{self._min_recall:g} asks for more; the index stays as it was. Raise index.probe (now "
                f"{self._probe:g}), or lower index.min_recall"
            )

    def _serve(self, folder: Path) -> str:
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._server, self._database, port = start_server_in_thread(str(folder))
        return f"http://127.0.0.1:{port}"

    def _version(self) -> str | None:
        if not self._client.has_collection(self.alias):
            return None
        return self._client.describe_alias(self.alias)["collection_name"]

    def _finish(self, version: str, count: int) -> None:
        self._client.flush(version)
        index = self._client.prepare_index_params()
        if count <= EXACT_UP_TO:
            index.add_index("vector", index_type="FLAT", metric_type=METRIC)
        else:
            index.add_index("vector", index_type="IVF_FLAT", metric_type=METRIC, params={"nlist": _lists(count)})
        self._client.create_index(version, index)
        self._client.load_collection(version)
        if (found := self._count(version)) != count:
            raise UserError(f"{version}: {found:,} of {count:,} positions are in the index; run index_cf again")

    def _swap(self, version: str) -> None:
        if self.version:
            self._client.alter_alias(version, self.alias)
        else:
            self._client.create_alias(version, self.alias)
        self.version = version
        for name in self._client.list_collections():
            if name.startswith(f"{self.alias}_") and name != version:
                self._client.drop_collection(name)

    def _count(self, version: str) -> int:
        return self._client.query(version, filter="", output_fields=["count(*)"])[0]["count(*)"]


def _lists(count: int) -> int:
    return int(4 * count**0.5)


def _neighbor(hit: dict) -> Neighbor:
    return Neighbor(hit["entity"]["user_id"], round(hit["distance"], 6), hit["entity"]["next_item_id"])


def _vectors(
    trained: checkpoint.Checkpoint, rows: pa.Table, progress: Progress
) -> Iterator[tuple[list[str], list[str], np.ndarray]]:
    for start in range(0, rows.num_rows, INSERT_ROWS):
        part = rows.slice(start, INSERT_ROWS)
        sequences = embed.encode(part["item_ids"], trained.vocabulary)
        vectors = embed.unit(embed.states(trained.model, sequences))
        yield part["user_id"].to_pylist(), part["next_item_id"].to_pylist(), vectors
        progress.advance(part.num_rows)


@contextmanager
def _quiet() -> Iterator[None]:
    """pymilvus logs a stack trace for what we tell the person in one line."""
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
