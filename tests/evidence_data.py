"""A context over histories made by chance, without a lake: for the tests of the pieces and of the fusion."""

import numpy as np

from mmsrarec.collaborative import ease
from mmsrarec.collaborative.content import weighted
from mmsrarec.collaborative.embed import Sequences
from mmsrarec.collaborative.meaning import DIMENSIONS
from mmsrarec.collaborative.pieces import content, counting
from mmsrarec.collaborative.pieces.asked import Asked
from mmsrarec.collaborative.pieces.context import Context
from mmsrarec.collaborative.pieces.pool import Batch, ask
from mmsrarec.collaborative.pieces.related import related
from mmsrarec.collaborative.text import reduced

SIZES = {"sasrec": 8, "linear": 8, "follows": 8, "text": 6, "similar_users": 4, "keywords": 4, "new": 2}


def sequences(lists: list[list[int]]) -> Sequences:
    codes = np.array([code for row in lists for code in row], np.int32)
    return Sequences(codes, np.concatenate([[0], np.cumsum([len(row) for row in lists])]).astype(np.int64))


def context(
    training: Sequences, items: int, texts: list[str] | None = None, vectors: np.ndarray | None = None
) -> Context:
    """Counts of the training histories; item vectors by chance unless given, those of a second network behind them in
    reverse."""
    rng = np.random.default_rng(3)
    both = counting.gram(training, items)
    texts = texts or [f"word{item % 5} kind{item % 3}" for item in range(items)]
    text = content.text_rows(texts)
    popularity = both.diagonal().astype(float)
    vectors = rng.normal(size=(items, 8)).astype(np.float32) if vectors is None else vectors
    known = popularity > 0
    follows = counting.transitions(training, items, 5, 0.8)
    main = np.where(known[:, None], vectors, 0).astype(np.float32)
    return Context(
        popularity=popularity,
        recent=counting.recent(training, None, items),
        clock=counting.clock(training, None, items),
        together=counting.cosine(both),
        follows=follows,
        linear=ease.weights(both, 10.0),
        text=text,
        meaning=reduced(text, DIMENSIONS),
        keywords=weighted([[f"color {item % 4}", "plain"] for item in range(items)]),
        related=related(training, follows, max_history=8, most=10),
        networks={"sasrec": main, "gru4rec": main[:, ::-1].copy()},
    )


def asked(made: Context, histories: Sequences, votes: np.ndarray | None = None, seed: int = 5) -> Asked:
    return ask(made, batch(made, histories, votes, seed), np.ones(made.items, bool), SIZES)[0]


def batch(made: Context, histories: Sequences, votes: np.ndarray | None = None, seed: int = 5) -> Batch:
    from scipy import sparse

    rng = np.random.default_rng(seed)
    dim = made.networks["sasrec"].shape[1]
    states = {name: rng.normal(size=(len(histories), dim)).astype(np.float32) for name in made.networks}
    votes = np.zeros((len(histories), made.items)) if votes is None else votes
    return Batch(histories, states, sparse.csr_array(votes))
