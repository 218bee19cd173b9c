"""Stage retrieve: similar users, candidates and the evidence about them, for every user of `histories`; new for those
whose own inputs have changed (carry.py).

`Retriever` does the work for any users table, so evaluate asks it the same questions about shortened histories. Users
go through in batches: no users x items matrix of all of them is ever made. Items are codes of the catalog, ascending
by item_id, which also breaks every tie.
"""

from collections.abc import Iterator
from functools import cached_property
from itertools import chain, repeat

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from mmsrarec.collaborative import candidates as merging
from mmsrarec.collaborative import checkpoint, embed, fusion, matrices, networks, prerank
from mmsrarec.collaborative.carry import MADE, Carry
from mmsrarec.collaborative.content import Content
from mmsrarec.collaborative.evidence import Pieces, levels
from mmsrarec.collaborative.neighbors import Neighbors
from mmsrarec.collaborative.networks import Networks
from mmsrarec.config import Config, Retrieve
from mmsrarec.errors import InputError
from mmsrarec.schemas import TABLES
from mmsrarec.storage import rules, runs, tables
from mmsrarec.storage.spool import Spool

BATCH_CELLS = 10_000_000  # users x items in memory at a time
BATCH_USERS = 512
READS = ("histories", "catalog", "item_cooccurrence", "item_transitions", "sasrec", "training_users", "item_keywords")
SPAN_USERS = 4096  # read at a time
KEPT = "retrievals"


def retrieve(config: Config, run_id: str) -> None:
    """Write similar_users, candidates and evidence for all users, from their whole histories."""
    root = config.lake.root
    with runs.stage(config, "retrieve", run_id, READS) as stage, Spool(*MADE, KEPT) as spool, Spool(KEPT) as kept:
        users = tables.read(root, "histories", ["user_id"])
        stage.rows_in = users.num_rows
        with Retriever(config) as retriever:
            users = retriever.rules.served(users)
            carry = Carry(config, retriever.servable, retriever.identity, retriever.rules)
            with stage.progress(users.num_rows, "users") as progress:
                for span in tables.spans("user_id", users["user_id"], SPAN_USERS):
                    part = carry.part(span, retriever.index_version)
                    made = _retrieved(retriever, part.users) | {KEPT: part.new}
                    for name, rows in [*part.carried.items(), *made.items()]:
                        spool.write(name, rows)
                    kept.write(KEPT, part.carried[KEPT])
                    progress.advance(part.carried[KEPT].num_rows + part.users.num_rows)
            stage.notes["unmatched_categories"] = retriever.unmatched_categories
            stage.versions |= {"sasrec": retriever.model_hash, "index_version": retriever.index_version}
        stage.rows_out = spool.rows["candidates"]
        stage.notes |= {name: spool.rows[name] for name in MADE} | {"users_carried": kept.rows[KEPT]}
        nobody_new = kept.rows[KEPT] == spool.rows[KEPT]
        if nobody_new and all(tables.count(root, name) == spool.rows[name] for name in (*MADE, KEPT)):
            return
        # While the tables are replaced one after the other, a row of `retrievals` holds for whatever they are then.
        tables.replace(root, KEPT, kept.batches(KEPT))
        for name in (*MADE, KEPT):
            tables.replace(root, name, spool.batches(name))


def _retrieved(retriever: "Retriever", users: pa.Table) -> dict[str, pa.Table]:
    if not users.num_rows:
        return {}
    similar = retriever.similar_users(users)
    candidates = retriever.candidates(users, similar)
    evidence = retriever.evidence(users, candidates, similar)
    return {"similar_users": similar, "candidates": candidates, "evidence": evidence}


class Retriever:
    """Everything that is known about users from item ids, and about items from their keywords.

    A users table has user_id and item_ids (in time order, oldest first). What a user has in item_ids is seen and never
    a candidate; nor is an item that `rules:` or the shop keep out. As a context manager it keeps the index open,
    otherwise each search opens and closes it. `fused_by` names the fusion of the pre-ranker, where there is one.
    """

    def __init__(self, config: Config, fused_by: str = fusion.SERVING):
        root = config.lake.root
        catalog = tables.read(root, "catalog", [*rules.COLUMNS, "interactions"]).sort_by("item_id")
        if catalog.num_rows == 0:
            raise InputError(f"{config.table('catalog')}: no items; run build_cf first")
        self._trained = trained = checkpoint.load(checkpoint.folder(config))
        self._config, self._settings, self._fused_by = config, config.retrieve, fused_by
        self._model, self._vocabulary = trained.model, trained.vocabulary
        self.model_hash = trained.model_hash
        self._neighbors = Neighbors(config, trained)
        self.vocabulary: list[str] = trained.vocabulary.to_pylist()
        self._item_vectors = trained.model.item_vectors.detach().numpy()
        self.items = catalog["item_id"].combine_chunks()
        self.rules = rules.load(config)
        self.unmatched_categories = self.rules.unmatched(catalog)
        self._free = self.rules.servable(catalog).to_numpy()
        if not self._free.any():
            raise InputError(f"{config.table('catalog')}: no item is available and allowed by the settings in rules:")
        categories = catalog["category"].combine_chunks().dictionary_encode("encode")
        self._category = categories.indices.to_numpy()
        self._limits = np.array([self.rules.limit(name) for name in categories.dictionary.to_pylist()])
        self._popularity = pc.fill_null(catalog["interactions"], 0).to_numpy()
        self._percentile = np.searchsorted(np.sort(self._popularity), self._popularity) / len(self._popularity)
        self._popular = merging.top(np.arange(len(self.items)), self._popularity, len(self.items))
        self._catalog_of_code = matrices.codes(trained.vocabulary, self.items)
        self._code_of_catalog = matrices.codes(self.items, trained.vocabulary)
        near = tables.read(root, "item_cooccurrence", ["item_id", "neighbor_id", "score"])
        after = tables.read(root, "item_transitions", ["item_id", "next_item_id", "score"])
        self._together, self._follows = (matrices.scored(table, self.items) for table in (near, after))
        keywords = tables.read(root, "item_keywords", ["item_id", "keywords"])
        self._content = Content(self.items, keywords) if keywords.num_rows else None
        self.batch_users = int(np.clip(BATCH_CELLS // len(self.items), 1, BATCH_USERS))

    @property
    def servable(self) -> pa.Array:
        """Ids of the items that may be candidates."""
        return self.items.filter(pa.array(self._free))

    @property
    def index_version(self) -> str | None:
        """Of the index that was searched last."""
        return self._neighbors.index_version

    @property
    def learned(self) -> str:
        """Of all networks behind what is retrieved: SASRec, those of the fusion, that of similar users."""
        of_evidence = self.networks.hash if self._settings.fusion.enabled else self.model_hash
        return f"{of_evidence}{self._neighbors.other_hash}"

    @property
    def identity(self) -> str:
        """Of what was learned from everybody: the networks, and where it is on the fusion."""
        return f"{self.learned}{self.preranker.fusion.hash}" if self._settings.fusion.enabled else self.learned

    @cached_property
    def networks(self) -> Networks:
        """SASRec and retrieve.fusion.networks; InputError where one has not been trained."""
        return networks.load(self._config, self._trained)

    @cached_property
    def preranker(self) -> prerank.Preranker:
        keywords = self._content.rows if self._content else csr_array((len(self.items), 1))
        read = self._free, self._together, self._follows, keywords, self.networks.vectors(self.items)
        return prerank.Preranker(self._config, prerank.Known(self.items, *read), self._fused_by)

    def __enter__(self) -> "Retriever":
        self._neighbors.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._neighbors.close()

    def similar_users(self, users: pa.Table) -> pa.Table:
        """retrieve.neighbors rows per user, nearest first; none where the network knows no item (neighbors.py)."""
        return self._neighbors.nearest(self._batches(users))

    def candidates(self, users: pa.Table, similar: pa.Table) -> pa.Table:
        """retrieve.candidates (at least recommend.top_k) distinct, available, unseen items per user, best first.

        Fewer only where the catalog has no more. `similar` are the similar_users rows of these users.
        """
        wanted = max(self._settings.candidates, self._config.recommend.top_k)
        found: list[tuple] = []
        fused: Iterator[prerank.Ranked | None] = repeat(None)
        if self._settings.fusion.enabled:
            fused = chain.from_iterable(self.preranker.best(batch, wanted) for batch in self.batches(users, similar))
        for (user, free, lists, logits), best in zip(self._named(users, similar, self._settings), fused, strict=False):
            filler = (code for code in self._popular if free[code])
            chosen = merging.interleave(lists, filler, wanted) if best is None else best.filled(filler, wanted)
            if self.rules.limited:
                rest, top_k = self._popular[free[self._popular]], self._config.recommend.top_k
                chosen = merging.enough(chosen, rest, self._category, self._limits, top_k)
            for rank, (code, source) in enumerate(chosen, 1):
                place = self._code_of_catalog[code]
                cf_score = float(logits[place]) if logits is not None and place >= 0 else None
                found.append((user, code, source, cf_score, rank, best and best.priors.get(code)))
        if not found:
            return TABLES["candidates"].empty_table()
        names, codes, sources, scores, ranks, priors = zip(*found, strict=True)
        return matrices.table("candidates", names, self.items.take(pa.array(codes)), sources, scores, ranks, priors)

    def orders(self, users: pa.Table, similar: pa.Table) -> Iterator[tuple[str, dict[str, pa.Array]]]:
        """Per user the items that each source would name if its share had no end, best first."""
        every = {name: len(self.items) for name in type(self._settings).model_fields if name.startswith("from_")}
        for user, _, lists, _ in self._named(users, similar, self._settings.model_copy(update=every)):
            yield user, {source: self.items.take(pa.array(codes)) for source, codes in lists.items()}

    def evidence(self, users: pa.Table, pairs: pa.Table, similar: pa.Table) -> pa.Table:
        """One row per row of pairs (user_id, item_id), in their order; every user of pairs is in users, once.

        sasrec_rank is among the items of the vocabulary that the user has not seen, as a list would show them.
        """
        user = matrices.codes(pairs["user_id"], users["user_id"].combine_chunks())
        item = matrices.codes(pairs["item_id"], self.items)
        if (user < 0).any() or (item < 0).any():
            raise ValueError("pairs name a user that is not in users or an item that is not in the catalog")
        order = np.argsort(user, kind="stable")
        edges = np.searchsorted(user[order], np.arange(0, users.num_rows + self.batch_users, self.batch_users))
        together, follows, own, others = np.zeros((4, len(user)))
        votes, ranks = np.zeros(len(user), np.int64), np.zeros(len(user), np.int64)
        for number, part in enumerate(self._batches(users)):
            chosen = order[edges[number] : edges[number + 1]]
            rows, codes = user[chosen] - number * self.batch_users, item[chosen]
            latest = matrices.latest(embed.encode(part["item_ids"], self.items), len(self.items))
            together[chosen] = matrices.cells(latest @ self._together, rows, codes)
            follows[chosen] = matrices.cells(latest @ self._follows, rows, codes)
            near = self._votes(part, similar, np.ones(similar.num_rows))
            votes[chosen] = matrices.cells(near, rows, codes)
            if self._content:
                own[chosen] = matrices.cells(self._content.similarities(latest), rows, codes)
                others[chosen] = matrices.cells(self._content.similarities(near), rows, codes)
            ranks[chosen] = self._ranks(part, rows, codes)
        known_ranks = [int(rank) if rank else None for rank in ranks]
        sums = [piece.round(6) for piece in (together, follows)]
        cosines = [piece.round(6) for piece in (own, others)]
        columns = [column.tolist() for column in (*sums, votes, *cosines, np.array(known_ranks, object))]
        words = [levels(Pieces(*pieces)) for pieces in zip(*columns, self._percentile[item].tolist(), strict=True)]
        fused, kept = self._settings.fusion, pa.nulls(len(user))
        if fused.words or fused.keep_pieces:
            values = self.preranker.pairs(self.batches(users, similar), user, item)
            words = self.preranker.words(values, words) if fused.words else words
            kept = matrices.lists(values) if fused.keep_pieces else kept
        more = (known_ranks, self._popularity[item], words, kept)
        return matrices.table("evidence", pairs["user_id"], pairs["item_id"], *sums, votes, *cosines, *more)

    def priors(self, users: pa.Table, pairs: pa.Table, similar: pa.Table) -> np.ndarray:
        """The fusion's score of each of pairs (user_id, item_id); every user of pairs is in users, once."""
        rows = matrices.codes(pairs["user_id"], users["user_id"].combine_chunks())
        return self.preranker.priors(self.batches(users, similar), rows, matrices.codes(pairs["item_id"], self.items))

    def batches(self, users: pa.Table, similar: pa.Table) -> Iterator[prerank.Batch]:
        """The users in batches, as the preranker takes them; `similar` are their similar_users rows."""
        for part in self._batches(users):
            votes = self._votes(part, similar, similar["similarity"].to_numpy())
            histories = embed.encode(part["item_ids"], self.items)
            yield prerank.Batch(histories, self.networks.states(part["item_ids"]), votes)

    def _batches(self, users: pa.Table) -> Iterator[pa.Table]:
        for start in range(0, users.num_rows, self.batch_users):
            yield users.slice(start, self.batch_users)

    def _logits(self, users: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Logits [users, vocabulary], and which users have an item of the vocabulary."""
        sequences = embed.encode(users["item_ids"], self._vocabulary)
        return embed.states(self._model, sequences) @ self._item_vectors.T, sequences.lengths > 0

    def _votes(self, users: pa.Table, similar: pa.Table, weights: np.ndarray) -> csr_array:
        """Summed weights of the similar users who took an item next, [users, items]."""
        rows = matrices.codes(similar["user_id"], users["user_id"].combine_chunks())
        columns = matrices.codes(similar["next_item_id"], self.items)
        return matrices.pairs(rows, columns, weights, (users.num_rows, len(self.items)))

    def _named(
        self, users: pa.Table, similar: pa.Table, shares: Retrieve
    ) -> Iterator[tuple[str, np.ndarray, dict[str, np.ndarray], np.ndarray | None]]:
        """Per user which items are free to be named, which ones each source names, best first, as many as its share in
        `shares`, and SASRec's logits (None where it knows no item of the user)."""
        for part in self._batches(users):
            seen = embed.encode(part["item_ids"], self.items)
            logits, known = self._logits(part)
            votes = self._votes(part, similar, similar["similarity"].to_numpy())
            latest = matrices.latest(seen, len(self.items))
            together = latest @ self._together
            near = self._content.similarities(latest) if self._content else None
            near_votes = self._content.similarities(votes) if self._content else None
            for row, user in enumerate(part["user_id"].to_pylist()):
                free = self._free.copy()
                free[seen[row]] = False
                lists = {
                    "sasrec": self._best_of_sasrec(logits[row], free, shares.from_sasrec if known[row] else 0),
                    "similar_users": matrices.best(votes, row, free, shares.from_similar_users),
                    "cooccurrence": matrices.best(together, row, free, shares.from_cooccurrence),
                }
                if near is not None:
                    lists["content"] = matrices.best(near, row, free, shares.from_content)
                    lists["similar_content"] = matrices.best(near_votes, row, free, shares.from_similar_content)
                    lists["new"] = matrices.best(near, row, free & (self._popularity == 0), shares.from_new)
                yield user, free, lists, logits[row] if known[row] else None

    def _best_of_sasrec(self, logits: np.ndarray, free: np.ndarray, count: int) -> np.ndarray:
        codes = np.flatnonzero((self._catalog_of_code >= 0) & free[self._catalog_of_code])
        return self._catalog_of_code[merging.top(codes, logits[codes], count)]

    def _ranks(self, users: pa.Table, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """SASRec's rank from 1 of each (row, item); 0 where user or item is outside the vocabulary."""
        logits, known = self._logits(users)
        codes = np.where(known[rows], self._code_of_catalog[items], -1)
        return matrices.ranks(logits, embed.encode(users["item_ids"], self._vocabulary), rows, codes)
