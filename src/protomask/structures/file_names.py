"""File names that mean one file although they are spelled in different ways."""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from urllib.parse import unquote

MAX_NAME_BYTES = 255  # of one part of a path; what common file systems hold
MAX_PATH_BYTES = 4095
_SEARCHED = 20_000  # names among which a close one is looked for

_EXACT, _UNICODE, _ENCODED, _CASE = range(4)


def name_flaw(name: str) -> str | None:
    """Why a path in a file cannot name a file inside a folder, or None."""
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:
        return "it holds characters that no file name has"
    if b"\0" in encoded:
        return "it holds the character NUL"
    plain = with_slashes(name)
    if len(encoded) > MAX_PATH_BYTES or any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in plain.split("/")):
        return f"it is too long ({len(encoded)} bytes)"
    if plain.startswith("/") or plain[1:2] == ":":
        return "it is absolute"
    if ".." in plain.split("/"):
        return "it leaves the folder with '..'"
    return None


def with_slashes(name: str) -> str:
    """The path with forward slashes, whatever wrote it."""
    return name.replace("\\", "/")


def tails(path: str) -> Iterator[str]:
    """The path, then without its first folder, and so on down to the name alone."""
    parts = [part for part in with_slashes(path).split("/") if part not in ("", ".")]
    for start in range(len(parts)):
        yield "/".join(parts[start:])


@lru_cache(maxsize=1 << 14)
def _key(name: str, level: int) -> str:
    """What spellings have in common: slashes; Unicode form; percent-encoding; upper and lower case."""
    name = with_slashes(name).removeprefix("./")
    if level >= _ENCODED:
        name = unquote(name)
    if level >= _UNICODE:
        name = unicodedata.normalize("NFC", name)
    if level >= _CASE:
        name = unicodedata.normalize("NFC", name.casefold())
    return name


class FileNames:
    """Finds a name among others: as it is spelled, else in another spelling that fits only one of them.

    Spellings are the same name if they differ by back slashes, Unicode form (macOS decomposes letters with accents),
    percent-encoding, or case.

    Args:
        names: paths or names.

    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)
        self._exact = dict.fromkeys(self._names)
        self._levels: dict[int, dict[str, str | None]] = {}

    def __len__(self) -> int:
        return len(self._names)

    @property
    def names(self) -> tuple[str, ...]:
        """The names as they were given."""
        return self._names

    def find(self, wanted: str) -> str | None:
        """The name that ``wanted`` means; None if there is none, or if several fit equally well."""
        if wanted in self._exact:
            return wanted
        for level in (_EXACT, _UNICODE, _ENCODED, _CASE):
            known = self._level(level)
            key = _key(wanted, level)
            if key in known:
                return known[key]
        return None

    def find_tail(self, path: str) -> str | None:
        """The name that the longest tail of ``path`` means."""
        return next((found for tail in tails(path) if (found := self.find(tail)) is not None), None)

    def close_to(self, wanted: str) -> str | None:
        """A name that looks like ``wanted``, for messages."""
        several = self._level(_CASE)
        key = _key(wanted, _CASE)
        if key in several and several[key] is None:
            return next(name for name in self._names if _key(name, _CASE) == key)
        found = difflib.get_close_matches(wanted, self._names[:_SEARCHED], n=1, cutoff=0.8)
        return found[0] if found else None

    def _level(self, level: int) -> dict[str, str | None]:
        if level not in self._levels:
            known: dict[str, str | None] = {}
            for name in self._exact:
                key = _key(name, level)
                known[key] = None if key in known else name
            self._levels[level] = known
        return self._levels[level]
