"""Pretrain the small backbone that the demo and the tests run on.

    python -m mmsrarec.demo.pretrain --out mmsrarec/demo/backbone

It opens with pictures and repeated words, which teach looking back. After that a step takes three lessons (worlds.py):
keywords of pictures, keywords of texts, and yes/no about the candidates of users, whose right answer is the probability
that the maker of the shop knows. The candidates of a user are packed behind one shared prefix: each sees the user and
itself, at the positions it has in the engine. Nothing outside this package is read but the word list of wordfreq.
`--resume` goes on from the last saved state. Needs the extra `pretrain`; about an hour on 2 cores.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mmsrarec.demo import worlds
from mmsrarec.demo.pictures import draw
from mmsrarec.demo.small_model import make_model, make_processor, save
from mmsrarec.keywords.prompt import clean_text, image_messages, parse_keywords, text_messages
from mmsrarec.recommendation.prompt import messages as pointwise_messages

IGNORE = -100
PICTURES, TEXTS, REPEATS, USERS, CANDIDATES = 16, 16, 24, 12, 8


class Lessons:
    """Batches of tensors, endless and seeded."""

    def __init__(self, processor, seed: int):
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.rng, self.np_rng = random.Random(seed), np.random.default_rng(seed)
        self.yes, self.no = (self.tokenizer(word).input_ids for word in ("yes", "no"))
        if len(self.yes) != 1 or len(self.no) != 1:
            raise ValueError("yes and no must be one token each")
        self._judgements = self._endless_judgements(seed)

    def pictures(self) -> dict[str, torch.Tensor]:
        """Picture request and answer; the loss is on the answer."""
        items = [worlds.random_item(self.rng) for _ in range(PICTURES)]
        size = self.rng.choice([112, 140, 168, 224])
        images = [draw(item.color, item.pattern, item.object, self.rng, size) for item in items]
        prompt = self.render(image_messages())
        answers = [", ".join(item.image_keywords) + "<|im_end|>" for item in items]
        batch = self.processor(
            text=[prompt + answer for answer in answers], images=images, padding=True, return_tensors="pt"
        )
        lengths = [len(self.tokenizer(answer).input_ids) for answer in answers]
        ends = batch["attention_mask"].sum(1)
        labels = torch.full_like(batch["input_ids"], IGNORE)
        for row, (length, end) in enumerate(zip(lengths, ends.tolist(), strict=True)):
            labels[row, end - length : end] = batch["input_ids"][row, end - length : end]
        return {**batch, "labels": labels}

    def texts(self) -> dict[str, torch.Tensor]:
        """Text request and answer: shop texts and free texts, half and half."""
        rows, labels = [], []
        for number in range(TEXTS):
            if number % 2:
                item = worlds.random_item(self.rng)
                text, keywords = worlds.shop_text(item, self.rng), item.text_keywords
            else:
                text, keywords = worlds.free_text(self.rng, self.np_rng)
            prompt = self.tokenizer(self.render(text_messages(clean_text(text, (), 1000)))).input_ids
            answer = self.tokenizer(", ".join(keywords) + "<|im_end|>").input_ids
            rows.append(prompt + answer)
            labels.append([IGNORE] * len(prompt) + answer)
        return self._padded(rows, labels)

    def _padded(self, rows: list[list[int]], labels: list[list[int]]) -> dict[str, torch.Tensor]:
        width = max(map(len, rows))
        pad = self.tokenizer.pad_token_id
        return {
            "input_ids": torch.tensor([row + [pad] * (width - len(row)) for row in rows]),
            "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
            "labels": torch.tensor([row + [IGNORE] * (width - len(row)) for row in labels]),
        }

    def repeats(self) -> dict[str, torch.Tensor]:
        """Random words written twice, a separator between; the loss is on the second time. It teaches looking back,
        on which both copying a keyword and finding it in a history rest, sooner than those lessons do themselves."""
        rows, labels, marker = [], [], self.tokenizer("\n").input_ids
        for _ in range(REPEATS):
            first = self.np_rng.integers(300, len(self.tokenizer), self.rng.randint(12, 24)).tolist()
            rows.append([*first, *marker, *first])
            labels.append([IGNORE] * (len(first) + len(marker)) + first)
        return self._padded(rows, labels)

    def judgements(self) -> dict[str, torch.Tensor]:
        """Users with packed candidates: ids and positions [U, L], mask [U, 1, L, L] (True: may see); fits [U, L] on the
        last token of each candidate, elsewhere NaN."""
        packed = [self._pack(next(self._judgements)) for _ in range(USERS)]
        width = max(len(ids) for ids, *_ in packed)
        ids, positions = (torch.zeros(USERS, width, dtype=torch.long) for _ in range(2))
        fits = torch.full((USERS, width), float("nan"))
        mask = torch.zeros(USERS, 1, width, width, dtype=torch.bool)
        mask[:] = torch.eye(width, dtype=torch.bool)
        for row, (tokens, places, segments, answers) in enumerate(packed):
            size = len(tokens)
            ids[row, :size], positions[row, :size] = torch.tensor(tokens), torch.tensor(places)
            segment = torch.tensor(segments)
            sees = (segment[None, :] == 0) | (segment[None, :] == segment[:, None])
            mask[row, 0, :size, :size] = sees & torch.ones(size, size, dtype=torch.bool).tril()
            for place, fit in answers:
                fits[row, place] = fit
        return {"input_ids": ids, "position_ids": positions, "mask": mask, "fits": fits}

    def render(self, messages: list[dict]) -> str:
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def _pack(self, lesson: worlds.Judgement) -> tuple[list, list, list, list]:
        marker = "\x00"
        prefix, suffix = self.render(pointwise_messages(lesson.user, marker)).split(marker)
        tokens = self.tokenizer(prefix).input_ids
        places, segments, answers, start = list(range(len(tokens))), [0] * len(tokens), [], len(tokens)
        for number, (candidate, fit) in enumerate(zip(lesson.candidates, lesson.fits, strict=True), 1):
            own = self.tokenizer(candidate + suffix).input_ids
            tokens += own
            places += range(start, start + len(own))
            segments += [number] * len(own)
            answers.append((len(tokens) - 1, fit))
        return tokens, places, segments, answers

    def _endless_judgements(self, seed: int) -> Iterator[worlds.Judgement]:
        shops = [iter(()) for _ in range(6)]  # several at a time, so that a batch is no single shop
        number = seed * 1_000_003
        while True:
            for place in range(len(shops)):
                lesson = next(shops[place], None)
                if lesson is None:
                    number += 1
                    shops[place] = worlds.judgements(number, self.rng, per_shop=80, candidates=CANDIDATES)
                    lesson = next(shops[place])
                yield lesson


def keywords_loss(model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    labels = batch.pop("labels")
    return _loss(model, model.model(**batch, use_cache=False).last_hidden_state[:, :-1], labels[:, 1:])


def judgement_states(model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Hidden states [U, L, D] under the packed mask."""
    language = model.model.language_model
    positions = batch["position_ids"][None].expand(3, -1, -1)
    embeddings = language.embed_tokens(batch["input_ids"])
    mask = {"full_attention": batch["mask"]}
    output = language(inputs_embeds=embeddings, position_ids=positions, attention_mask=mask, use_cache=False)
    return output.last_hidden_state


def judgement_loss(model, batch: dict[str, torch.Tensor], yes: int, no: int) -> torch.Tensor:
    """Cross-entropy against p(yes) = fit, p(no) = 1 - fit over the whole vocabulary; fits stand on the token before."""
    asked = ~batch["fits"].isnan()
    logs = model.lm_head(judgement_states(model, batch)[asked]).float().log_softmax(-1)
    fit = batch["fits"][asked]
    return -(fit * logs[:, yes] + (1 - fit) * logs[:, no]).mean()


def _loss(model, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    asked = labels != IGNORE
    return F.cross_entropy(model.lm_head(states[asked]).float(), labels[asked])


@torch.no_grad()
def check(model, lessons: Lessons, batches: int = 6) -> str:
    """F1 of generated keywords; how far p(yes) is from the fit; how often two candidates stand in their order."""
    model.eval()
    f1 = {"picture": [], "text": []}
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
        asked = ~batch["fits"].isnan()
        logits = model.lm_head(judgement_states(model, batch)).float()
        p_yes = (logits[..., lessons.yes[0]] - logits[..., lessons.no[0]]).sigmoid()
        for row in range(len(p_yes)):
            fit, found = batch["fits"][row][asked[row]], p_yes[row][asked[row]]
            errors.append((fit - found).abs().mean().item())
            better = (fit[:, None] - fit[None, :]) > 0.1
            agreements.append((found[:, None] > found[None, :])[better].float().mean().item())
    model.train()
    figures = f"picture F1 {np.mean(f1['picture']):.3f} text F1 {np.mean(f1['text']):.3f}"
    return f"{figures} fit error {np.mean(errors):.3f} pairs in order {np.nanmean(agreements):.3f}"


def _generate(model, inputs, tokenizer) -> list[str]:
    output = model.generate(**inputs, max_new_tokens=32, do_sample=False)
    return parse_keywords(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True), 8)


def _f1(found: list[str], true: list[str]) -> float:
    return 2 * len(set(found) & set(true)) / max(len(found) + len(true), 1)


def train(arguments: argparse.Namespace) -> None:
    processor = make_processor()
    model = make_model(processor)
    optimizers = make_optimizers(model)
    state_file, first = arguments.state / "state.pt", 0
    if arguments.resume and state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, known in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(known)
        first = state["step"]
    lessons, held_out = Lessons(processor, seed=1 + first), Lessons(processor, seed=900_001)
    sums, since = {}, time.monotonic()
    for step in range(first, arguments.steps):
        for optimizer in optimizers:
            _set_rate(optimizer, step, arguments)
        for name, loss in _step_losses(model, lessons, opening=step < arguments.opening):
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
            torch.save({"model": model.state_dict(), "optimizers": known, "step": done}, state_file)
            save(model, processor, arguments.out)
            print(f"pretrain: saved {arguments.out}; {check(model, held_out)}", flush=True)


def make_optimizers(model) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, with AdamW's scale of step; AdamW for embeddings, norms and biases."""
    named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    matrices = [value for name, value in named if value.ndim == 2 and "embed" not in name]
    known = {id(value) for value in matrices}
    rest = [value for _, value in named if id(value) not in known]
    return [
        torch.optim.Muon(matrices, momentum=0.95, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.05),
    ]


def _step_losses(model, lessons: Lessons, opening: bool) -> Iterator[tuple[str, float]]:
    """Gradients of one step's lessons add up in the model."""
    judge = partial(judgement_loss, yes=lessons.yes[0], no=lessons.no[0])
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
    parser.add_argument("--steps", type=int, default=1900)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=50, help="steps")
    parser.add_argument("--report", type=int, default=20, help="steps between progress lines")
    parser.add_argument("--save-every", type=int, default=250, help="steps between saved states")
    parser.add_argument("--opening", type=int, default=600, help="first steps, on pictures and repeated words only")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments)


if __name__ == "__main__":
    main()
