"""What Ray Data costs: our scoring (staged groups, Ray Data, vLLM, answers in Delta) against plain vllm.LLM.generate.

    python bench/scoring.py [--users 200] [--candidates 30] [--rounds 3] [--model bundled]

The same prompts, each way in a process of its own, turn about. Steady is requests a second after the first batch; with
start is all requests over the whole time, imports and engine start included. The ratio is ours over plain, of medians.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from synthetic import settings, users

from mmsrarec.config import Config

WAYS = ("ours", "plain")


def ours(config: Config, arguments: argparse.Namespace) -> dict[str, float]:
    from mmsrarec.engines import batch
    from mmsrarec.storage import runs

    groups = users(config, arguments.users, arguments.candidates)
    with runs.stage(config, "bench", runs.new_run_id()) as stage:
        batch.answer(config, stage, groups)
    return {"steady": stage.notes["requests_per_second"], "hit rate": stage.notes["prefix_cache_hit_rate"]}


def plain(config: Config, arguments: argparse.Namespace) -> dict[str, float]:
    """One call for the first batch, as a warm-up that ours has too, and one for all the others."""
    import os

    from mmsrarec.engines.template import Template
    from mmsrarec.engines.vllm import engine_arguments, environment

    groups = users(config, arguments.users, arguments.candidates)
    prompts = [request.prompt for group in groups for request in group.requests]
    ids = Template(config.model_path).yes_no_ids()
    os.environ.update(environment(config))
    from vllm import LLM, SamplingParams

    engine = LLM(**engine_arguments(config))
    parameters = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False, logprob_token_ids=list(ids))
    first = config.engine.batch_rows * arguments.candidates
    engine.generate(prompts[:first], parameters, use_tqdm=False)
    started = time.monotonic()
    outputs = engine.generate(prompts[first:], parameters, use_tqdm=False)
    seconds = time.monotonic() - started
    hits = sum(output.num_cached_tokens for output in outputs) / sum(len(o.prompt_token_ids) for o in outputs)
    return {"steady": len(outputs) / seconds, "hit rate": hits}


def measured(way: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Run one way in a process of its own."""
    command = [sys.executable, __file__, "--way", way, "--users", str(arguments.users), "--model", arguments.model]
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--candidates", str(arguments.candidates)], check=True, stdout=subprocess.PIPE, text=True
    )
    result = json.loads(done.stdout.strip().splitlines()[-1])
    return result | {"with start": arguments.users * arguments.candidates / (time.monotonic() - started)}


def report(results: dict[str, list[dict[str, float]]]) -> None:
    print(f"{'requests/s':<12}{'ours':>10}{'plain':>10}{'ratio':>8}")
    for figure in ("steady", "with start", "hit rate"):
        ours_, plain_ = (median(result[figure] for result in results[way]) for way in WAYS)
        print(f"{figure:<12}{ours_:>10.2f}{plain_:>10.2f}{ours_ / plain_:>8.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--candidates", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="bundled", help="folder or hub name")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        with tempfile.TemporaryDirectory() as folder:
            work = {"ours": ours, "plain": plain}[arguments.way]
            print(json.dumps(work(settings(Path(folder), arguments.model), arguments)))
        return
    results: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(arguments.rounds):
        for way in WAYS if number % 2 == 0 else reversed(WAYS):
            results[way].append(measured(way, arguments))
            print(f"round {number + 1} {way}: {results[way][-1]}", file=sys.stderr)
    report(results)


if __name__ == "__main__":
    main()
