"""Batches of lessons for the small backbone, as tensors: pictures, texts, repeated words, and users with candidates."""

import random
from collections.abc import Iterator

import numpy as np
import torch

from mmsrarec.demo import teacher, worlds
from mmsrarec.demo.pictures import draw
from mmsrarec.keywords.prompt import clean_text, image_messages, text_messages
from mmsrarec.recommendation.prompt import messages as pointwise_messages

IGNORE = -100
PICTURES, TEXTS, REPEATS, USERS, CANDIDATES = 10, 8, 24, 14, 8
TAUGHT = 2000  # users that the teacher learns from
SHARPNESS = 2.0  # of the teacher's logits: a clearer order is sooner learned


class Lessons:
    """Batches of tensors, endless and seeded."""

    def __init__(self, processor, seed: int):
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.rng, self.np_rng = random.Random(seed), np.random.default_rng(seed)
        self.yes, self.no = (self.tokenizer(word).input_ids for word in ("yes", "no"))
        if len(self.yes) != 1 or len(self.no) != 1:
            raise ValueError("yes and no must be one token each")
        self._judgements = self._endless_judgements(seed)
        known = [next(self._judgements) for _ in range(TAUGHT)]
        self.teacher = teacher.fit(
            [counts for lesson in known for counts in lesson.counts], [fit for lesson in known for fit in lesson.fits]
        )

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
        """Users with packed candidates: ids and positions [U, L], mask [U, 1, L, L] (True: may see). answers [U, L] is
        p(yes) on the last token of each candidate and shares [U, L, 2] what the teacher counts of a keyword on the last
        token of the keyword; elsewhere NaN."""
        packed = [self._pack(next(self._judgements)) for _ in range(USERS)]
        width = max(len(tokens) for tokens, *_ in packed)
        ids, positions = (torch.zeros(USERS, width, dtype=torch.long) for _ in range(2))
        answers, shares = torch.full((USERS, width), torch.nan), torch.full((USERS, width, 2), torch.nan)
        mask = torch.zeros(USERS, 1, width, width, dtype=torch.bool)
        mask[:] = torch.eye(width, dtype=torch.bool)
        for row, (tokens, places, segments, asked, aided) in enumerate(packed):
            size = len(tokens)
            ids[row, :size], positions[row, :size] = torch.tensor(tokens), torch.tensor(places)
            segment = torch.tensor(segments)
            sees = (segment[None, :] == 0) | (segment[None, :] == segment[:, None])
            mask[row, 0, :size, :size] = sees & torch.ones(size, size, dtype=torch.bool).tril()
            for place, answer in asked:
                answers[row, place] = answer
            for place, share in aided:
                shares[row, place] = torch.tensor(share)
        return {"input_ids": ids, "position_ids": positions, "mask": mask, "answers": answers, "shares": shares}

    def render(self, messages: list[dict]) -> str:
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def _pack(self, lesson: worlds.Judgement) -> tuple[list, list, list, list, list]:
        marker = "\x00"
        prefix, suffix = self.render(pointwise_messages(lesson.user, marker)).split(marker)
        tokens = self.tokenizer(prefix).input_ids
        places, segments, start = list(range(len(tokens))), [0] * len(tokens), len(tokens)
        answers, aided = [], []
        p_yes = self.teacher(lesson.counts, SHARPNESS)
        for number, candidate in enumerate(lesson.candidates):
            own = self.tokenizer(candidate + suffix, return_offsets_mapping=True)
            ends = {end: len(tokens) + place for place, (_, end) in enumerate(own.offset_mapping)}
            end = candidate.index(":")
            for keyword, share in zip(lesson.keywords[number], lesson.shares[number], strict=True):
                end = candidate.index(keyword, end) + len(keyword)
                aided.append((ends[end], share))
            tokens += own.input_ids
            places += range(start, start + len(own.input_ids))
            segments += [number + 1] * len(own.input_ids)
            answers.append((len(tokens) - 1, p_yes[number]))
        return tokens, places, segments, answers, aided

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
