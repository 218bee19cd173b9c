"""Batches of lessons for the small backbone, as tensors: pictures, texts, repeated words, and users with candidates."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mmsrarec.demo import teacher, worlds
from mmsrarec.demo.pictures import draw
from mmsrarec.demo.practice import Question
from mmsrarec.keywords.prompt import clean_text, image_messages, text_messages
from mmsrarec.recommendation import prompt as pointwise

IGNORE = -100
PICTURES, TEXTS, REPEATS, USERS, CANDIDATES = 10, 8, 24, 14, 8
TAUGHT = 4000  # questions that the teacher learns from
HISTORY, SIMILAR = 5, 3  # the method's n and k, which most lessons have
SHARPNESS = 2.0  # of the teacher's logits: a clearer order is sooner learned


def taught(questions: Sequence[Question], seed: int) -> teacher.Teacher:
    """The teacher of all lessons, from a sample of the questions as they usually look."""
    features, fits = [], []
    for question in random.Random(seed).sample(questions, min(len(questions), TAUGHT)):
        history, similar = question.history[-HISTORY:], question.similar[:SIMILAR]
        pairs = zip(question.keywords, question.levels, strict=True)
        features += [teacher.counts(history, similar, words, levels) for words, levels in pairs]
        fits += question.fits
    return teacher.fit(features, fits)


class Lessons:
    """Batches of tensors, endless and seeded. The yes/no lessons are about `questions`, answered by `teacher`."""

    def __init__(self, processor: Any, questions: Sequence[Question], answered: teacher.Teacher, seed: int):
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.rng, self.np_rng = random.Random(seed), np.random.default_rng(seed)
        self.yes, self.no = (self.tokenizer(word).input_ids for word in ("yes", "no"))
        if len(self.yes) != 1 or len(self.no) != 1:
            raise ValueError("yes and no must be one token each")
        self._questions, self._teacher = questions, answered

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
        packed = [self._pack(self.rng.choice(self._questions)) for _ in range(USERS)]
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

    def _pack(self, question: Question) -> tuple[list, list, list, list, list]:
        marker = "\x00"
        history, similar, asked = self._varied(question)
        messages = pointwise.messages(pointwise.user_text(history, similar), marker)
        prefix, suffix = self.render(messages).split(marker)
        tokens = self.tokenizer(prefix).input_ids
        places, segments, start = list(range(len(tokens))), [0] * len(tokens), len(tokens)
        answers, aided = [], []
        p_yes = self._teacher([teacher.counts(history, similar, *candidate) for candidate in asked], SHARPNESS)
        for number, (keywords, levels) in enumerate(asked):
            text = pointwise.candidate_text(keywords, levels)
            own = self.tokenizer(text + suffix, return_offsets_mapping=True)
            ends = {end: len(tokens) + place for place, (_, end) in enumerate(own.offset_mapping)}
            end = text.index(":")
            for keyword in keywords:
                end = text.index(keyword, end) + len(keyword)
                aided.append((ends[end], teacher.shares(history, similar, keyword)))
            tokens += own.input_ids
            places += range(start, start + len(own.input_ids))
            segments += [number + 1] * len(own.input_ids)
            answers.append((len(tokens) - 1, p_yes[number]))
        return tokens, places, segments, answers, aided

    def _varied(self, question: Question) -> tuple[list, list, list[tuple[list[str], str]]]:
        """History, similar users' items, and (keywords, levels) of some candidates: cut to some n and k, now and then
        without the evidence, and in every second lesson in other words, so that the model learns to compare keywords,
        not to know ten colors."""
        rng = self.rng
        n, k = rng.choice([3, 5, 5, 5, 5, 8]), rng.choice([1, 2, 3, 3, 3, 3, 3, 5])
        best = rng.sample(range(10), 3)
        numbers = [*best, *rng.sample(range(10, len(question.keywords)), CANDIDATES - len(best))]
        rng.shuffle(numbers)
        shown = rng.random() > 0.12
        asked = [(question.keywords[number], question.levels[number] if shown else "") for number in numbers]
        history, similar = question.history[-n:], question.similar[:k]
        if rng.random() < 0.5:
            known = {word for item in (*history, *similar, *(words for words, _ in asked)) for word in item}
            words = dict(zip(sorted(known), rng.sample(worlds.CONTENT[:4000], len(known)), strict=True))
            history, similar = ([[words[word] for word in item] for item in items] for items in (history, similar))
            asked = [([words[word] for word in item], levels) for item, levels in asked]
        return history, similar, asked
