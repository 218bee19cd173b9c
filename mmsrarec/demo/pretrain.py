"""Pretrain the small backbone that the demo and the tests run on.

    python -m mmsrarec.demo.pretrain --out mmsrarec/demo/backbone

First the pipeline runs over practice shops (practice.py), which gives users with candidates. The lessons open with
pictures and repeated words, which teach looking back. After that a step takes three lessons (lessons.py): keywords of
pictures, keywords of texts, and yes/no about the candidates of users, with the answers of teacher.py. The candidates
of a user are packed behind one shared prefix: each sees the user and itself, at the positions it has in the engine.
Nothing outside this package is read but the word list of wordfreq. `--resume` goes on from the last saved state. Needs
the extra `pretrain`; about 40 minutes on 2 cores.
"""

import argparse
import math
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from mmsrarec.demo import practice, worlds
from mmsrarec.demo.lessons import IGNORE, Lessons, taught
from mmsrarec.demo.pictures import draw
from mmsrarec.demo.small_model import make_model, make_processor, save
from mmsrarec.keywords.prompt import clean_text, image_messages, parse_keywords, text_messages

AIDED_LAYER = 2  # the teacher's counts are asked for at the output of this layer


def keywords_loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    labels = batch.pop("labels")
    return _loss(model, model.model(**batch, use_cache=False).last_hidden_state[:, :-1], labels[:, 1:])


def judgement_states(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states [U, L, D] under the packed mask: of the last layer, and of the aided one."""
    language = model.model.language_model
    output = language(
        inputs_embeds=language.embed_tokens(batch["input_ids"]),
        position_ids=batch["position_ids"][None].expand(3, -1, -1),
        attention_mask={"full_attention": batch["mask"]},
        use_cache=False,
        output_hidden_states=True,
    )
    return output.last_hidden_state, output.hidden_states[AIDED_LAYER]


def judgement_loss(
    model: Any, batch: dict[str, torch.Tensor], ids: tuple[int, int], aid: torch.nn.Linear
) -> torch.Tensor:
    """Cross-entropy against p(yes) and p(no) over the whole vocabulary, and of `aid` against the teacher's counts."""
    states, aided = judgement_states(model, batch)
    asked = ~batch["answers"].isnan()
    logs = model.lm_head(states[asked]).float().log_softmax(-1)
    p_yes = batch["answers"][asked]
    judged = -(p_yes * logs[:, ids[0]] + (1 - p_yes) * logs[:, ids[1]]).mean()
    known = ~batch["shares"][..., 0].isnan()
    normed = F.rms_norm(aided[known], aided.shape[-1:])
    return judged + F.binary_cross_entropy_with_logits(aid(normed), batch["shares"][known])


def _loss(model: Any, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    asked = labels != IGNORE
    return F.cross_entropy(model.lm_head(states[asked]).float(), labels[asked])


@torch.no_grad()
def check(model: Any, lessons: Lessons, batches: int = 6) -> str:
    """F1 of generated keywords; how far p(yes) is from the teacher's; how often two candidates stand in their order."""
    model.eval()
    f1: dict[str, list[float]] = {"picture": [], "text": []}
    tokenizer = lessons.tokenizer
    for _ in range(60):
        item = worlds.random_item(lessons.rng)
        image = draw(item.color, item.pattern, item.object, lessons.rng)
        prompt = lessons.render(image_messages())
        inputs = lessons.processor(text=[prompt], images=[image], return_tensors="pt")
        f1["picture"].append(_f1(_generate(model, inputs, tokenizer), item.image_keywords))
        text = clean_text(worlds.shop_text(item, lessons.rng), (), 1000)
        inputs = tokenizer(lessons.render(text_messages(text)), return_tensors="pt")
        f1["text"].append(_f1(_generate(model, inputs, tokenizer), item.text_keywords))
    errors, agreements = [], []
    for _ in range(batches):
        batch = lessons.judgements()
        asked = ~batch["answers"].isnan()
        logits = model.lm_head(judgement_states(model, batch)[0]).float()
        p_yes = (logits[..., lessons.yes[0]] - logits[..., lessons.no[0]]).sigmoid()
        for row in range(len(p_yes)):
            true, found = batch["answers"][row][asked[row]], p_yes[row][asked[row]]
            errors.append((true - found).abs().mean().item())
            better = (true[:, None] - true[None, :]) > 0.1
            agreements.append((found[:, None] > found[None, :])[better].float().mean().item())
    model.train()
    figures = f"picture F1 {np.mean(f1['picture']):.3f} text F1 {np.mean(f1['text']):.3f}"
    return f"{figures} p(yes) error {np.mean(errors):.3f} pairs in order {np.nanmean(agreements):.3f}"


def _generate(model: Any, inputs: Any, tokenizer: Any) -> list[str]:
    output = model.generate(**inputs, max_new_tokens=32, do_sample=False)
    return parse_keywords(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True), 8)


def _f1(found: list[str], true: list[str]) -> float:
    return 2 * len(set(found) & set(true)) / max(len(found) + len(true), 1)


def train(arguments: argparse.Namespace) -> None:
    processor = make_processor()
    model = make_model(processor)
    aid = torch.nn.Linear(model.config.text_config.hidden_size, 2)
    optimizers = make_optimizers(model, aid)
    state_file, first = arguments.state / "state.pt", 0
    if arguments.resume and state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        aid.load_state_dict(state["aid"])
        for optimizer, known in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(known)
        first = state["step"]
    shops = [practice.questions(arguments.state / "practice", number) for number in range(1 + arguments.shops)]
    questions = [question for shop in shops[1:] for question in shop]
    teacher = taught(questions, seed=1)
    lessons, held_out = Lessons(processor, questions, teacher, 1 + first), Lessons(processor, shops[0], teacher, 0)
    sums: dict[str, float] = {}
    since = time.monotonic()
    for step in range(first, arguments.steps):
        for optimizer in optimizers:
            _set_rate(optimizer, step, arguments)
        for name, loss in _step_losses(model, aid, lessons, opening=step < arguments.opening):
            sums[name] = sums.get(name, 0.0) + loss / arguments.report
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        done = step + 1
        if done % arguments.report == 0:
            seconds = (time.monotonic() - since) / arguments.report
            losses = " ".join(f"{name} {loss:.3f}" for name, loss in sums.items())
            left = f"{seconds * (arguments.steps - done) / 60:.0f} min left"
            print(f"pretrain: {done}/{arguments.steps} steps, {seconds:.2f} s/step, {left}, loss {losses}", flush=True)
            sums, since = {}, time.monotonic()
        if done % arguments.save_every == 0 or done == arguments.steps:
            arguments.state.mkdir(parents=True, exist_ok=True)
            known = [optimizer.state_dict() for optimizer in optimizers]
            torch.save(
                {"model": model.state_dict(), "aid": aid.state_dict(), "optimizers": known, "step": done}, state_file
            )
            save(model, processor, arguments.out)
            print(f"pretrain: saved {arguments.out}; {check(model, held_out)}", flush=True)


def make_optimizers(model: Any, aid: torch.nn.Linear) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, with AdamW's scale of step; AdamW for embeddings, norms and biases."""
    named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    matrices = [value for name, value in named if value.ndim == 2 and "embed" not in name]
    known = {id(value) for value in matrices}
    rest = [value for _, value in named if id(value) not in known]
    return [
        torch.optim.Muon(matrices, momentum=0.95, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([*rest, *aid.parameters()], betas=(0.9, 0.98), weight_decay=0.05),
    ]


def _step_losses(model: Any, aid: torch.nn.Linear, lessons: Lessons, opening: bool) -> Iterator[tuple[str, float]]:
    """Gradients of one step's lessons add up in the model."""
    judge = partial(judgement_loss, ids=(lessons.yes[0], lessons.no[0]), aid=aid)
    tasks = [("picture", keywords_loss, lessons.pictures), ("repeat", keywords_loss, lessons.repeats)]
    if not opening:
        tasks = [tasks[0], ("text", keywords_loss, lessons.texts), ("yes/no", judge, lessons.judgements)]
    for name, loss, batch in tasks:
        value = loss(model, batch())
        value.backward()
        yield name, value.item()


def _set_rate(optimizer: torch.optim.Optimizer, step: int, arguments: argparse.Namespace) -> None:
    warm = min(1.0, (step + 1) / arguments.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * step / arguments.steps))
    for group in optimizer.param_groups:
        group["lr"] = arguments.learning_rate * warm * (0.03 + 0.97 * cosine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "backbone", help="folder of the weights")
    parser.add_argument("--state", type=Path, default=Path("build/pretrain"), help="folder of the resumable state")
    parser.add_argument("--resume", action="store_true", help="go on from the saved state")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=50, help="steps")
    parser.add_argument("--report", type=int, default=20, help="steps between progress lines")
    parser.add_argument("--save-every", type=int, default=250, help="steps between saved states")
    parser.add_argument("--opening", type=int, default=600, help="first steps, on pictures and repeated words only")
    parser.add_argument("--shops", type=int, default=16, help="practice shops")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments)


if __name__ == "__main__":
    main()
