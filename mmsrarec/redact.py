"""Takes credentials out of what is about to be said or written: every way out of the program goes through `hidden`.

Known are the values that this process has in its environment, and what looks like a credential whoever has it: access
key ids, user and password in an address, the signing part of a signed address, and what S3 repeats of a request.
"""

import os
import re

SECRET_VARIABLES = re.compile(r"^AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|CONTAINER_AUTHORIZATION_TOKEN)$")
SHORTEST = 8  # characters; a shorter value would take ordinary words away with it
HIDDEN = "***"
PATTERNS = (
    (re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{12,}"), HIDDEN),
    (re.compile(r"(?<=://)[^/\s@\"']+(?=@)"), HIDDEN),
    (re.compile(r"(X-Amz-(?:Signature|Credential|Security-Token)=|Signature=|AWSAccessKeyId=)[^&\s\"']+"), r"\1***"),
    (re.compile(r"<(AWSAccessKeyId|StringToSign\w*|SignatureProvided|CanonicalRequest\w*)>.*?</\1>", re.S), ""),
)
_more: set[str] = set()


def hide(value: str | None) -> None:
    """Have this value hidden from now on."""
    if value and len(value) >= SHORTEST:
        _more.add(value)


def hidden(text: str) -> str:
    """The text without credentials."""
    known = {value for name, value in os.environ.items() if SECRET_VARIABLES.match(name) and len(value) >= SHORTEST}
    for value in sorted(known | _more, key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    for pattern, shown in PATTERNS:
        text = pattern.sub(shown, text)
    return text
