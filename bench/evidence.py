"""Pools, evidence and fusion for synthetic users: CPU seconds and peak memory by their number, the growth exponent, and
what 10 million users would take. `python bench/evidence.py [--users 10000 50000 200000] [--items 20000] [--threads 1]`.

Each size runs in a process of its own, so that peak memory is its own. Histories drift over the items as a shop's do;
vectors are by chance, because speed does not depend on them. SASRec's states, the index and Spark's counts are measured
elsewhere; EASE is left out unless --ease says so, its cost depends on the items alone.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time

SOURCES = {"sasrec": 100, "linear": 40, "follows": 40, "text": 40, "similar_users": 20, "new": 5}
DIM, NEIGHBORS, WORDS, TITLE, CELLS, BATCH, KEPT = 64, 50, 8000, 8, 10_000_000, 512, 30
LARGE_USERS, CORES = 10_000_000, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--candidates", type=int, default=200, help="places of a pool that are used")
    parser.add_argument("--networks", type=int, default=0, help="sequence networks beside the main one")
    parser.add_argument("--ease", action="store_true")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(arguments.one, arguments)))
        return
    found = [in_a_process(users, arguments) for users in arguments.users]
    report(found, arguments)


def in_a_process(users: int, arguments: argparse.Namespace) -> dict:
    command = [sys.executable, __file__, "--one", str(users), "--items", str(arguments.items)]
    command += ["--candidates", str(arguments.candidates), *(["--ease"] if arguments.ease else [])]
    command += ["--networks", str(arguments.networks)]
    threads = {name: str(arguments.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def measured(users: int, arguments: argparse.Namespace) -> dict:
    """CPU seconds and GiB for one number of users."""
    import numpy as np

    from mmsrarec.collaborative import fusion
    from mmsrarec.collaborative.embed import Sequences
    from mmsrarec.collaborative.pieces import counting, table
    from mmsrarec.collaborative.pieces.asked import Asked
    from mmsrarec.collaborative.pieces.pool import ask

    rng = np.random.default_rng(1)
    lengths = rng.integers(4, 16, users)
    starts = np.repeat(rng.random(users) * 0.9, lengths)
    codes = ((starts + 0.1 * rng.random(lengths.sum())) * arguments.items).astype(np.int32)
    training = Sequences(codes, np.concatenate([[0], np.cumsum(lengths)]))
    started = time.process_time()
    made = context(training, arguments, rng)
    counted = time.process_time()
    scorer = fusion.fixed(list(table.pieces(list(made.networks)[1:])))
    pairs, free = 0, np.ones(arguments.items, bool)
    size = max(1, min(BATCH, CELLS // arguments.items))
    for start in range(0, users, size):
        part = counting.part(training, start, start + size)
        asked, _ = ask(made, batch(part, made, rng), free, SOURCES)
        asked = Asked(asked.histories, asked.logits, asked.votes, asked.pool[:, : arguments.candidates])
        scores = scorer.score(table.values(made, asked))
        np.argpartition(-scores, KEPT, axis=1)
        pairs += int(asked.valid.sum())
    done = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"users": users, "pairs": pairs, "context": counted - started, "evidence": done - counted, "peak": peak}


def context(training, arguments: argparse.Namespace, rng):
    import numpy as np

    from mmsrarec.collaborative import ease
    from mmsrarec.collaborative.meaning import DIMENSIONS
    from mmsrarec.collaborative.pieces import content, counting
    from mmsrarec.collaborative.pieces.context import Context
    from mmsrarec.collaborative.pieces.related import related, strongest
    from mmsrarec.collaborative.text import reduced
    from mmsrarec.config import Fusion
    from mmsrarec.config.data import BuildCf

    items = arguments.items
    both = counting.gram(training, items)
    words = rng.zipf(1.3, size=(items, TITLE)) % WORDS
    text = content.text_rows([" ".join(f"w{word}" for word in row) for row in words])
    names = ["sasrec", *(f"network {number}" for number in range(arguments.networks))]
    follows = strongest(counting.transitions(training, items, 5, 0.8), NEIGHBORS)
    return Context(
        popularity=both.diagonal().astype(float),
        recent=counting.recent(training, None, items),
        clock=counting.clock(training, None, items),
        together=strongest(counting.cosine(both), NEIGHBORS),
        follows=follows,
        linear=ease.weights(both, Fusion().ease_penalty) if arguments.ease else None,
        text=text,
        meaning=reduced(text, DIMENSIONS),
        keywords=text,
        related=related(training, follows, BuildCf().max_history, NEIGHBORS),
        networks={name: rng.normal(size=(items, DIM)).astype(np.float32) for name in names},
    )


def batch(histories, context, rng):
    import numpy as np
    from scipy import sparse

    from mmsrarec.collaborative.pieces.pool import Batch

    users = len(histories)
    states = {name: rng.normal(size=(users, DIM)).astype(np.float32) for name in context.networks}
    places = np.repeat(np.arange(users), NEIGHBORS), rng.integers(0, context.items, users * NEIGHBORS)
    votes = sparse.csr_array((rng.random(users * NEIGHBORS), places), shape=(users, context.items))
    return Batch(histories, states, votes)


def report(found: list[dict], arguments: argparse.Namespace) -> None:
    ease = "on" if arguments.ease else "off"
    print(f"{arguments.items:,} items, {1 + arguments.networks} network(s), {arguments.threads} thread(s), EASE {ease}")
    print("users      pairs         counts s   evidence s   users/s   peak GiB")
    for row in found:
        rate = row["users"] / row["evidence"]
        print(
            f"{row['users']:<10,} {row['pairs']:<13,} {row['context']:<10.1f} {row['evidence']:<12.1f} "
            f"{rate:<9.0f} {row['peak']:.2f}"
        )
    if len(found) > 1:
        first, last = found[0], found[-1]
        growth = math.log(last["evidence"] / first["evidence"]) / math.log(last["users"] / first["users"])
        print(f"evidence grows as users^{growth:.2f}")
    seconds = found[-1]["evidence"] / found[-1]["users"] * LARGE_USERS
    print(
        f"{LARGE_USERS:,} users of {arguments.items:,} items at this rate: {seconds / 3600:.1f} hours of one process, "
        f"{seconds / 60 / CORES:.0f} minutes on {CORES} cores; users are independent, so it is a division"
    )


if __name__ == "__main__":
    main()
