"""What it is worth to compute a question's user once in tuning: loss and gradient of the same examples of the sample
shop, packed by question (tune_recommender.share_prefixes) and one by one.

    python bench/tuning.py [--config conf/demo.yaml] [--questions 60] [--rounds 3]

After `make demo`. CPU seconds of one thread, in batches of batch_tokens tokens either way, turn about; without the
steps of the optimizer. The ratio is one by one over packed, of medians.
"""

import argparse
import time
from collections.abc import Iterator
from itertools import islice
from statistics import median

import numpy as np
import torch
from peft import get_peft_model

from mmsrarec import load_config
from mmsrarec.collaborative.retrieve import Retriever
from mmsrarec.config import Config
from mmsrarec.engines.template import Template
from mmsrarec.training import backbone, lessons, recommender_sft
from mmsrarec.training.recommender_stage import taught


def batches(config: Config, questions: list[recommender_sft.Rows], share: bool) -> Iterator[list[recommender_sft.Rows]]:
    settings = config.tune_recommender.model_copy(update={"share_prefixes": share, "epochs": 1})
    groups = list(recommender_sft.grouped(questions, settings))
    return recommender_sft.batched(groups, settings, np.random.default_rng(config.run.seed))


def seconds(config: Config, questions: list[recommender_sft.Rows], share: bool) -> float:
    """CPU time of forward and backward over all of them."""
    model = backbone.load(config, config.tune_recommender)
    model = get_peft_model(model, backbone.lora(config.tune_recommender, model))
    collator = recommender_sft.Collator(config, 0, model.dtype)
    yes, _ = Template.of(config).yes_no_ids()
    started = time.process_time()
    for batch in batches(config, questions, share):
        read = collator([{"batch": batch}])
        weights, _ = read.pop("weights"), read.pop("instructions")
        (recommender_sft.answer_losses(model, read, yes) * weights).sum().backward()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="conf/demo.yaml")
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(arguments.config)
    with Retriever(config) as retriever:
        teach, _ = lessons.split(config)
        questions = list(islice(taught(config, retriever, teach), arguments.questions))
    rows = [row for question in questions for row in question]
    for share, name in ((True, "packed"), (False, "one by one")):
        computed = sum(recommender_sft.length(group) for batch in batches(config, questions, share) for group in batch)
        print(f"{name}: {len(questions)} questions, {len(rows)} examples, {computed:,} tokens computed")
    found: dict[bool, list[float]] = {True: [], False: []}
    for number in range(arguments.rounds):
        for share in (True, False) if number % 2 else (False, True):
            found[share].append(seconds(config, questions, share))
    packed, alone = median(found[True]), median(found[False])
    print(f"packed {packed:.1f} s, one by one {alone:.1f} s of CPU: {alone / packed:.2f} x")


if __name__ == "__main__":
    main()
