"""Where compiled code is kept on disk."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numba

PRODUCT = Path(__file__).resolve().parent.parent
_FOLDERS: dict[str, Path] = {}


def keep_compiled(name: str, sources: Iterable[Path]) -> None:
    """Let what Numba compiles next with `cache=True` be kept in a folder for this state of `sources`.

    Numba itself notices only changes of the file it compiles, not of those that file calls. The folder is beside the
    sources or, where that can't be written, in the user's cache.
    """
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sorted(sources))).hexdigest()[:16]
    _FOLDERS[name] = _writable(f"{name}-{digest}")
    keep_with(name)


def keep_with(name: str) -> None:
    """Keep what Numba compiles next where `keep_compiled` was called with this name, whatever was imported since."""
    setattr(numba.config, "CACHE_DIR", str(_FOLDERS[name]))  # noqa: B010  (type checkers miss it)


def _writable(name: str) -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mesi"
    for folder in (PRODUCT / "__pycache__", home):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder / name
    return Path(tempfile.gettempdir()) / f"mesi-{name}"
