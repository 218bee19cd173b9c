"""What the prompt's layout brings: pairs scored a second in our layout and in the paper's, on the same engine.

    python bench/prompt_layout.py [--users 60] [--candidates 30] [--rounds 3] [--model bundled | larger]

Ours: the user first and the candidate last, keywords only, so a user's candidates share their prefix. The paper's: the
candidate's picture in every prompt, no shared prefix (the prefix cache is off). Turn about, each with an engine of its
own; pairs a second after the first batch; the ratio is that of the medians.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

from synthetic import larger_backbone, settings, users, users_of_the_paper

from mmsrarec.engines import batch
from mmsrarec.storage import runs

LAYOUTS = {"ours": (users, True), "the paper's": (users_of_the_paper, False)}


def measured(layout: str, arguments: argparse.Namespace) -> dict[str, float]:
    made, shared = LAYOUTS[layout]
    with tempfile.TemporaryDirectory() as folder:
        config = settings(Path(folder), arguments.model, batch_rows=8, extra={"enable_prefix_caching": shared})
        groups = made(config, arguments.users, arguments.candidates)
        with runs.stage(config, "bench", runs.new_run_id()) as stage:
            batch.answer(config, stage, groups)
    pairs = stage.notes["engine_requests"]
    if stage.notes["engine_errors"]:
        raise SystemExit(f"{layout}: {stage.notes['engine_errors']} of {pairs} pairs failed")
    computed = (stage.prompt_tokens - stage.notes["cached_tokens"]) / pairs
    return {"pairs/s": stage.notes["requests_per_second"], "tokens": stage.prompt_tokens / pairs, "computed": computed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=60)
    parser.add_argument("--candidates", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="bundled", help="folder or hub name; larger = 90 M random weights")
    arguments = parser.parse_args()
    if arguments.model == "larger":
        arguments.model = larger_backbone(Path(tempfile.mkdtemp()) / "larger")
    results: dict[str, list[dict[str, float]]] = {layout: [] for layout in LAYOUTS}
    for number in range(arguments.rounds):
        for layout in LAYOUTS if number % 2 == 0 else reversed(LAYOUTS):
            results[layout].append(measured(layout, arguments))
            print(f"round {number + 1} {layout}: {results[layout][-1]}", file=sys.stderr)
    print(f"{'layout':<14}{'pairs/s':>10}{'tokens/pair':>13}{'computed/pair':>15}")
    for layout, rounds in results.items():
        figures = [median(result[figure] for result in rounds) for figure in ("pairs/s", "tokens", "computed")]
        print(f"{layout:<14}{figures[0]:>10.1f}{figures[1]:>13.0f}{figures[2]:>15.0f}")
    ours, paper = (median(result["pairs/s"] for result in rounds) for rounds in results.values())
    print(f"ratio {ours / paper:.1f}")


if __name__ == "__main__":
    main()
