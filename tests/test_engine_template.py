"""The chat template as models of different makers have it: parts or one string, with or without a first token."""

import shutil
from pathlib import Path

import pytest
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoProcessor, PreTrainedTokenizerFast

from mmsrarec.config import BUNDLED_MODEL
from mmsrarec.engines.template import Template, folder_hash
from mmsrarec.engines.types import LETTERS
from mmsrarec.errors import ModelError

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "before"}, {"type": "image"}, {"type": "text", "text": "q"}]},
]
PARTS = (
    "{% for m in messages %}{{ m['role'] | upper }}: {% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
STRING = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}[assistant] "
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}x"


@pytest.fixture(scope="module")
def bundled() -> Template:
    return Template(str(BUNDLED_MODEL))


def words_model(folder: Path, chat_template: str | None, words: tuple[str, ...], bos: bool = False) -> str:
    """A folder with a word-level tokenizer of `words`, which adds <s> by itself where `bos`."""
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(["<unk>", "<s>", *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")
    fast.chat_template = chat_template
    fast.save_pretrained(folder)
    return str(folder)


def test_parts_keep_their_order_and_the_answer_comes_next(bundled):
    text = bundled.render(MESSAGES)
    places = [text.index(piece) for piece in ("Be brief.", "before", "<|image_pad|>", "q<|im_end|>", "assistant")]
    assert places == sorted(places)
    assert text.count("<|image_pad|>") == 1


def test_the_rendered_picture_is_where_the_processor_puts_its_tokens(bundled):
    inputs = AutoProcessor.from_pretrained(BUNDLED_MODEL)(
        text=[bundled.render(MESSAGES)], images=[Image.new("RGB", (112, 56))], return_tensors="pt"
    )
    pads = bundled.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert (inputs["input_ids"] == pads).sum() > 1


def test_every_control_token_is_special(bundled):
    assert {"<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|vision_start|>"} <= set(bundled.special_tokens)
    for token in bundled.special_tokens:
        ids = bundled.tokenizer(token)["input_ids"]
        assert len(ids) == 1 or token == "<image>"
    assert list(bundled.special_tokens) == sorted(bundled.special_tokens, key=lambda token: (-len(token), token))


def test_yes_and_no_are_what_follows_the_prompt(bundled):
    prompt = bundled.render(MESSAGES)
    yes, no = bundled.yes_no_ids()
    words = [bundled.tokenizer.decode([number]) for number in (yes, no)]
    assert [word.strip().lower() for word in words] == ["yes", "no"]
    before = bundled.tokenizer(prompt)["input_ids"]
    assert bundled.tokenizer(prompt + words[0])["input_ids"] == [*before, yes]


def test_a_model_that_splits_yes_is_refused(tmp_path):
    template = Template(words_model(tmp_path, STRING, ("[", "]", "user", "assistant", "no")))
    with pytest.raises(ModelError, match="single tokens"):
        template.yes_no_ids()


def test_the_spelling_that_a_tokenizer_has_is_taken_for_both(tmp_path):
    template = Template(words_model(tmp_path, STRING, ("yes", "Yes", "No")))
    vocabulary = template.tokenizer.get_vocab()
    assert template.yes_no_ids() == (vocabulary["Yes"], vocabulary["No"])


def test_letters_are_tokens_where_an_answer_starts(bundled):
    prompt = bundled.render(MESSAGES)
    before = bundled.tokenizer(prompt)["input_ids"]
    for letter, token in zip(LETTERS, bundled.letter_ids(26), strict=True):
        assert bundled.tokenizer(prompt + letter)["input_ids"] == [*before, token]
    assert bundled.letter_ids(3) == bundled.letter_ids(26)[:3]


def test_a_model_without_a_token_for_each_letter_is_refused(tmp_path):
    words = ("yes", "no", "[", "]", "user", "assistant")
    few = Template(words_model(tmp_path / "few", STRING, (*words, *LETTERS[:5])))
    assert len(set(few.letter_ids(5))) == 5
    with pytest.raises(ModelError, match=r"A to F as a single token.*recommend\.scoring=pointwise"):
        few.letter_ids(6)


def test_a_template_of_parts_gets_the_system_message_as_parts_too(tmp_path):
    text = Template(words_model(tmp_path, PARTS, ("yes", "no"))).render(MESSAGES)
    assert text == "SYSTEM: Be brief. USER: before<image>q ASSISTANT:"


def test_a_template_of_strings_gets_one_string(tmp_path):
    text = Template(words_model(tmp_path, STRING, ("yes", "no"))).render(MESSAGES)
    assert text == "[system] Be brief.\n[user] before<image>\nq\n[assistant] "


@pytest.mark.parametrize("bos", [True, False])
def test_the_first_token_comes_once(tmp_path, bos):
    template = Template(words_model(tmp_path, "<s>" + STRING, ("yes", "no"), bos))
    assert template.tokenizer(template.render(MESSAGES))["input_ids"].count(1) == 1


def test_identity_follows_the_content_not_the_place(tmp_path):
    copy, other = tmp_path / "copy", tmp_path / "other"
    for folder in (copy, other):
        shutil.copytree(BUNDLED_MODEL, folder)
    assert folder_hash(str(copy)) == folder_hash(str(BUNDLED_MODEL))
    with open(other / "model.safetensors", "r+b") as weights:
        weights.seek(-1, 2)
        last = weights.read(1)[0]
        weights.seek(-1, 2)
        weights.write(bytes([last ^ 1]))
    assert folder_hash(str(other)) != folder_hash(str(copy))
    assert Template(str(copy)).identity == f"copy@{folder_hash(str(copy))}"


def test_a_folder_is_hashed_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.bin").write_bytes(b"x" * 1000)
    found = folder_hash(str(tmp_path / "model"))
    (entry,) = (tmp_path / "cache" / "mmsrarec" / "models").iterdir()
    assert entry.read_text() == found


@pytest.mark.parametrize("name", ["/no/such/folder", "no such model"])
def test_no_model_there_is_a_message(name):
    with pytest.raises(ModelError, match="cannot be loaded"):
        Template(name)


def test_a_model_without_a_chat_template_is_refused(tmp_path):
    with pytest.raises(ModelError, match="chat template|cannot be loaded"):
        Template(words_model(tmp_path, None, ("yes", "no")))


def test_a_template_that_refuses_is_a_message(tmp_path):
    template = Template(words_model(tmp_path, NO_SYSTEM, ("yes", "no")))
    with pytest.raises(ModelError, match="refuses"):
        template.render(MESSAGES)
