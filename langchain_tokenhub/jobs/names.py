"""File names that every system takes. Pure."""

from __future__ import annotations

import re
import unicodedata

MOST_BYTES = 80
"""Of a stem: Linux takes 255 bytes a name, eCryptfs 143, and a suffix and a number come behind."""
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
)
"""Names that Windows takes for devices."""
_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that steer a terminal, or turn the direction in which a name is read."""


def stem_of(text: str, job_id: str | None = None) -> str:
    """Return a file name without suffix, from a prompt and the job's id.

    Args:
        text: What the file shows; cut at a character, counted in bytes.
        job_id: Its end tells two pictures of one prompt apart.
    """
    plain = unicodedata.normalize("NFC", text)
    plain = re.sub(r"[\s_]+|[^\w.\-]", "_", plain, flags=re.ASCII if plain.isascii() else 0)
    plain = re.sub(r"_+", "_", plain)
    plain = plain.encode("utf-8", "ignore")[:MOST_BYTES].decode("utf-8", "ignore").strip("._- ")
    if _reserved(plain):
        plain = f"_{plain}"
    return "-".join(part for part in (plain, tail_of(job_id or "")) if part) or "tokenhub"


def tail_of(job_id: str) -> str:
    """Return how the name of a job's file ends, before its number and suffix."""
    return re.sub(r"[^A-Za-z0-9-]", "", job_id)[-12:].strip("-")


def numbered(stem: str, count: int) -> str:
    """Return `stem`, with a number where it is not the first."""
    return stem if count < 2 else f"{stem}-{count}"


def awkward(name: str) -> bool:
    """Say whether some system refuses `name`, takes it for a device, or shows it as another."""
    return name != name.rstrip(". ") or _reserved(name) or bool(_STEERING.search(name))


def _reserved(name: str) -> bool:
    """Say whether Windows takes `name` for a device; it reads COM¹ as COM1."""
    device = unicodedata.normalize("NFKC", name.partition(".")[0]).rstrip().lower()
    return device in _RESERVED
