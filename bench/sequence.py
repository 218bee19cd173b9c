"""Our SASRec and GRU4Rec beside RecBole's: training samples per second, HR@10 and NDCG@10, in the same run.

    .venv/bin/python bench/sequence.py --interactions interactions.parquet --items items.parquet \\
        --network sasrec gru4rec --protocol leave_one_out user_split --epochs 12 --other build/recbole/bin/python

Metrics are over the full catalog, seen items out, of --users random test users, with one function for everybody.
leave_one_out: the last item of a user is the test, the one before stops the training early; with --refit ours is then
trained once more on all but the last, for as many epochs as were best. user_split: users 8:1:1, the last item of a
validation or test user held out. A sample is a position that is a target once in a pass; seconds are those of the
passes. `--other` is a Python with recbole==1.2.1 and numpy<2; its networks have the
same widths, layers, heads and longest history, and its own defaults else (--theirs key=value changes one; --set ours).
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
import yaml

from mmsrarec.collaborative import embed
from mmsrarec.collaborative.embed import Sequences
from mmsrarec.collaborative.text import ItemText
from mmsrarec.config import Sasrec
from mmsrarec.training import sasrec_trainer as trainer

NAMES = {"sasrec": "SASRec", "gru4rec": "GRU4Rec"}
RECBOLE = """
import json, sys, time
import numpy as np, torch
folder, settings = sys.argv[1], json.loads(sys.argv[2])
sys.argv = sys.argv[:1]  # it reads the rest as its own
torch.set_num_threads(settings.pop("threads"))
load = torch.load
torch.load = lambda *a, **k: load(*a, **{"weights_only": False, **k})  # its checkpoints hold more than weights
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed
name = settings.pop("model")
config = Config(model=name, dataset="bench", config_dict=settings)
init_seed(config["seed"], True)
dataset = create_dataset(config)
train, valid, _ = data_preparation(config, dataset)
model = get_model(name)(config, train._dataset)
fitting = get_trainer(config["MODEL_TYPE"], name)(config, model)
spent, one_pass = [], fitting._train_epoch
def timed(*given, **named):
    started = time.perf_counter()
    found = one_pass(*given, **named)
    spent.append(time.perf_counter() - started)
    return found
fitting._train_epoch = timed
fitting.fit(train, valid, verbose=False, saved=True, show_progress=False)
model.load_state_dict(torch.load(fitting.saved_model_file)["state_dict"])
model.eval()
asked = np.load(f"{folder}/asked.npz")
ids = np.array([0, *dataset.token2id("item_id", [str(code) for code in range(int(asked["items"]))])])
states = []
with torch.no_grad():
    for start in range(0, len(asked["codes"]), 512):
        rows = torch.from_numpy(ids[asked["codes"][start : start + 512]])
        states.append(model.forward(rows, torch.from_numpy(asked["lengths"][start : start + 512])).numpy())
    vectors = model.item_embedding.weight[torch.from_numpy(ids[1:])].numpy()
np.savez(f"{folder}/answered.npz", states=np.concatenate(states), vectors=vectors)
print(json.dumps({"samples": len(train._dataset), "epochs": len(spent), "seconds": sum(spent)}))
"""


def read(arguments: argparse.Namespace) -> tuple[pa.Array, list[np.ndarray], ItemText | None]:
    """The items, each user's codes in order (users with at least three, --sample of them), and the titles."""
    table = pq.read_table(arguments.interactions, columns=["user_id", "item_id", "timestamp"])
    counts = pc.value_counts(table["user_id"])
    enough = counts.field("values").filter(pc.greater_equal(counts.field("counts"), 3)).sort()
    if arguments.sample:
        enough = enough.take(np.random.default_rng(arguments.seed).permutation(len(enough))[: arguments.sample])
    table = table.filter(pc.is_in(table["user_id"], value_set=enough))
    table = table.sort_by([("user_id", "ascending"), ("timestamp", "ascending")])
    item_ids = table["item_id"].cast(pa.string()).combine_chunks()
    vocabulary = pc.unique(item_ids).sort()
    codes = pc.index_in(item_ids, value_set=vocabulary).to_numpy()
    _, starts = np.unique(table["user_id"].to_numpy(), return_index=True)
    rows = [row.astype(np.int32) for row in np.split(codes, starts[1:])]
    if arguments.items is None:
        return vocabulary, rows, None
    known = pq.read_table(arguments.items, columns=["item_id", "title"])
    titles = dict(zip(known["item_id"].cast(pa.string()).to_pylist(), known["title"].to_pylist(), strict=True))
    return vocabulary, rows, ItemText([titles.get(item) or "" for item in vocabulary.to_pylist()], None)


def sequences(rows: list[np.ndarray]) -> Sequences:
    return Sequences(np.concatenate([np.zeros(0, np.int32), *rows]), np.cumsum([0, *map(len, rows)]))


def leave_one_out(vocabulary: pa.Array, rows: list[np.ndarray], held: int) -> trainer.TrainingData:
    """Trained on all but the last `held` (2: the last but one stops the training; 1: nothing does)."""
    before, asked = sequences([row[:-held] for row in rows]), rows if held == 2 else []
    validation = sequences([row[:-2] for row in asked])
    return trainer.TrainingData(vocabulary, before, validation, np.array([row[-2] for row in asked], np.int64))


def user_split(vocabulary: pa.Array, rows: list[np.ndarray], order: np.ndarray) -> trainer.TrainingData:
    """The first tenth of `order` are test users, the second validation users."""
    tenth = len(rows) // 10
    held = set(order[: 2 * tenth].tolist())
    training = sequences([row[:-1] if number in held else row for number, row in enumerate(rows)])
    asked = [rows[number] for number in order[tenth : 2 * tenth]]
    validation = sequences([row[:-1] for row in asked])
    return trainer.TrainingData(vocabulary, training, validation, np.array([row[-1] for row in asked], np.int64))


def ranks(states: np.ndarray, vectors: np.ndarray, asked: list[np.ndarray]) -> np.ndarray:
    """From 1, of each row's last item among all that are not in the rest of the row."""
    found = []
    for state, row in zip(states, asked, strict=True):
        logits = vectors @ state
        target = logits[row[-1]]
        logits[row[:-1]] = -np.inf
        logits[row[-1]] = -np.inf
        found.append(1 + int((logits >= target).sum()))
    return np.array(found)


def figures(places: np.ndarray) -> dict:
    return {"HR@10": round(100 * (places <= 10).mean(), 2), "NDCG@10": round(100 * gains(places).mean(), 3)}


def gains(places: np.ndarray) -> np.ndarray:
    return np.where(places <= 10, 1 / np.log2(places + 1), 0.0)


def ratio(mine: np.ndarray, others: np.ndarray) -> str:
    """Of the NDCG@10, with its 95% interval by a paired bootstrap over the users."""
    drawn = np.random.default_rng(0).integers(0, len(mine), (1000, len(mine)))
    both = [gains(places) for places in (mine, others)]
    low, high = np.percentile(both[0][drawn].sum(1) / both[1][drawn].sum(1), [2.5, 97.5])
    return f"{both[0].sum() / both[1].sum():.3f} [{low:.3f}, {high:.3f}]"


def ours(data: trainer.TrainingData, settings: Sasrec, seed: int, asked: list[np.ndarray]) -> tuple[dict, np.ndarray]:
    """What the training took, and the ranks of the asked."""
    spent, one_pass = [], trainer._epoch

    def timed(*given: object) -> float:
        started = time.perf_counter()
        mean = one_pass(*given)
        spent.append(time.perf_counter() - started)
        return mean

    trainer._epoch = timed
    try:
        model, facts = trainer.fit(data, settings, seed)
    finally:
        trainer._epoch = one_pass
    states = embed.states(model, sequences([row[:-1] for row in asked]))
    samples = int((data.training.lengths - 1).clip(min=0).sum())
    taken = {"samples": samples, "epochs": len(spent), "seconds": sum(spent), "best_epoch": facts["best_epoch"]}
    return taken, ranks(states, model.item_vectors.detach().numpy(), asked)


def theirs(other: str, rows: list[np.ndarray], items: int, asked: list[np.ndarray], settings: dict) -> tuple:
    """RecBole's network on the same rows, its splits those of `leave_one_out` with two held out."""
    with tempfile.TemporaryDirectory(prefix="sequence-") as name:
        place = Path(name) / "bench"
        place.mkdir()
        with (place / "bench.inter").open("w") as file:
            file.write("user_id:token\titem_id:token\ttimestamp:float\n")
            for user, row in enumerate(rows):
                file.writelines(f"{user}\t{code}\t{step}\n" for step, code in enumerate(row))
        longest = settings["MAX_ITEM_LIST_LENGTH"]
        codes, lengths = embed.pad(sequences([row[:-1] for row in asked]), np.arange(len(asked)), longest)
        codes = torch.nn.functional.pad(codes, (0, longest - codes.shape[1]))
        np.savez(Path(name) / "asked.npz", codes=codes.numpy(), lengths=lengths.numpy(), items=items)
        given = settings | {"data_path": name, "checkpoint_dir": name}
        command = [other, "-c", RECBOLE, name, json.dumps(given)]
        done = subprocess.run(command, cwd=name, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        answered = np.load(Path(name) / "answered.npz")
        taken = json.loads(done.stdout.strip().splitlines()[-1])
        return taken, ranks(answered["states"], answered["vectors"], asked)


def recbole_settings(ours: Sasrec, seed: int, threads: int) -> dict:
    fields = {"USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "TIME_FIELD": "timestamp"}
    sizes = {
        "sasrec": {"hidden_size": ours.dim, "inner_size": 4 * ours.dim, "n_layers": ours.layers, "n_heads": ours.heads},
        "gru4rec": {"embedding_size": ours.dim, "hidden_size": ours.hidden, "num_layers": ours.layers},
    }[ours.network]
    split = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
    return fields | sizes | {
        "model": NAMES[ours.network],
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": ours.max_length,
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "eval_args": split,
        "metrics": ["Hit", "NDCG"],
        "topk": [10],
        "valid_metric": "NDCG@10",
        "epochs": ours.epochs,
        "stopping_step": ours.patience,
        "use_gpu": False,
        "seed": seed,
        "state": "ERROR",
        "show_progress": False,
        "threads": threads,
    }  # fmt: skip


def chosen(pairs: list[str]) -> dict:
    return {key: yaml.safe_load(value) for key, value in (pair.split("=", 1) for pair in pairs)}


def told(name: str, protocol: str, taken: dict, places: np.ndarray) -> dict:
    row = {"model": name, "protocol": protocol, **taken, **figures(places)}
    row |= {"seconds": round(taken["seconds"], 1), "users": len(places)}
    row["samples_per_second"] = round(taken["samples"] * taken["epochs"] / taken["seconds"])
    print(json.dumps(row), flush=True)
    return row


def compare(arguments: argparse.Namespace) -> None:
    vocabulary, rows, titles = read(arguments)
    order = np.random.default_rng(arguments.seed).permutation(len(rows))
    given, given_theirs = chosen(arguments.set), chosen(arguments.theirs)
    base = Sasrec(epochs=arguments.epochs, device="cpu").model_copy(update=given)
    for protocol in arguments.protocol:
        drawn = order if protocol == "leave_one_out" else order[: len(rows) // 10]
        asked = [rows[number] for number in drawn[: arguments.users]]
        split = user_split(vocabulary, rows, order) if protocol == "user_split" else leave_one_out(vocabulary, rows, 2)
        for network in arguments.network:
            settings = Sasrec(**base.model_dump() | {"network": network})
            text = {"text": titles if settings.text else None}
            taken, mine = ours(trainer.TrainingData(**vars(split) | text), settings, arguments.seed, asked)
            row = told(network, protocol, taken, mine)
            if arguments.refit and protocol == "leave_one_out":
                whole = trainer.TrainingData(**vars(leave_one_out(vocabulary, rows, 1)) | text)
                again = settings.model_copy(update={"epochs": taken["best_epoch"]})
                told(f"{network}, refitted", protocol, *ours(whole, again, arguments.seed, asked))
            if arguments.other and protocol == "leave_one_out":
                known = recbole_settings(settings, arguments.seed, torch.get_num_threads()) | given_theirs
                taken, places = theirs(arguments.other, rows, len(vocabulary), asked, known)
                rival = told(f"RecBole's {NAMES[network]}", protocol, taken, places)
                faster = row["samples_per_second"] / rival["samples_per_second"]
                print(f"{network}: {faster:.2f} x the samples/s, NDCG@10 {ratio(mine, places)} x RecBole's")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=Path, required=True, help="Parquet: user_id, item_id, timestamp")
    parser.add_argument("--items", type=Path, help="Parquet with item_id and title, for --set text=true")
    parser.add_argument("--network", nargs="+", default=["sasrec"], choices=["sasrec", "gru4rec"])
    parser.add_argument(
        "--protocol", nargs="+", default=["leave_one_out"], choices=["leave_one_out", "user_split"]
    )  # fmt: skip
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--sample", type=int, help="users of the data that are taken at all, by chance; default all")
    parser.add_argument("--users", type=int, default=5000, help="test users drawn at most")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--refit", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of section sasrec")
    parser.add_argument("--other", help="a Python with recbole")
    parser.add_argument("--theirs", action="append", default=[], metavar="KEY=VALUE", help="a setting of RecBole")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    compare(arguments)


if __name__ == "__main__":
    main()
