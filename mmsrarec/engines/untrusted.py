"""An item's text on its way into a prompt: nothing in it is trusted. What leaves `clean_text` can carry no template
token, no line break and none of the delimiters that a prompt puts around it.
"""

import re
import unicodedata

# From the start of a run of < / and blanks, and to its end: what is nested goes at once, and no text takes long.
_DELIMITER = r"(?<![\s/<])[\s/]*+<[\s/<]*+item[\s/>]*>"


def delimited(text: str) -> str:
    """As prompts show it; `text` must come from clean_text."""
    return f"<item>{text}</item>"


def clean_text(text: str | None, special_tokens: tuple[str, ...], max_chars: int) -> str:
    """An item's text on one line, without control characters, template tokens or our own delimiters.

    `special_tokens` are the strings that the model's tokenizer turns into control tokens. Removal is repeated until
    nothing changes, so a token that appears when another is taken out goes too; so does one that only appears when
    white space is joined or a look-alike character is normalized.
    """
    if not text:
        return ""
    text = unicodedata.normalize("NFKC", text[: 8 * max_chars])
    if not text.isprintable():
        text = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text)
    text = " ".join(text.split())
    barred = re.compile("|".join([_DELIMITER, *(re.escape(t) for t in special_tokens if t)]), re.IGNORECASE)
    before = None
    while before != text:
        before, text = text, " ".join(barred.sub(" ", text).split())
    return text[:max_chars].strip()
