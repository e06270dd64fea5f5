"""Where compiled code is kept on disk."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

import numba

PRODUCT = Path(__file__).resolve().parent.parent
_ROOT = PRODUCT.parent
_IMPORT = re.compile(r"^from ((?:media|bench|tests)\.[\w.]+) import", re.MULTILINE)
_FOLDERS: dict[str, Path] = {}


def keep_compiled(name: str, source: str) -> None:
    """Let what Numba compiles next with `cache=True` be kept in a folder for this state of `source` and all it imports.

    Numba itself notices only changes of the file it compiles, not of those that file calls. The folder is beside the
    sources or, where that can't be written, in the user's cache.
    """
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in _with_imports(Path(source)))).hexdigest()[:16]
    _FOLDERS[name] = _writable(f"{name}-{digest}")
    keep_with(name)


def _with_imports(source: Path) -> list[Path]:
    found, waiting = set[Path](), {source.resolve()}
    while waiting:
        path = waiting.pop()
        found.add(path)
        for name in _IMPORT.findall(path.read_text()):
            place = _ROOT.joinpath(*name.split("."))
            waiting |= set(place.glob("*.py") if place.is_dir() else [place.with_suffix(".py")]) - found
    return sorted(found)


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
