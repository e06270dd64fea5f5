"""Where compiled code is kept on disk."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numba

PRODUCT = Path(__file__).resolve().parent.parent
_ROOT = PRODUCT.parent
_IMPORT = re.compile(r"^from ((?:media|bench|tests)\.[\w.]+) import", re.MULTILINE)
_FOLDERS: dict[str, Path] = {}
_APART = "MESI_COMPILES"  # in the environment of the process that only compiles
_WHOLE = "whole"  # a file beside what was compiled to its end


def keep_compiled(name: str, source: str) -> None:
    """Let what Numba compiles next with `cache=True` be kept in a folder for this state of `source` and all it imports.

    Numba itself notices only changes of the file it compiles, not of those that file calls. The folder is beside the
    sources or, where that can't be written, in the user's cache, or else for this process alone.
    """
    sources = _with_imports(Path(source))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    home = _writable()
    folder = (home or Path(tempfile.mkdtemp(prefix="mesi-"))) / f"{name}-{digest}"  # nobody else wrote into either
    if home and _APART not in os.environ and not _is_whole(folder, sources):
        _compile_apart(Path(source).resolve(), folder)
    _FOLDERS[name] = folder
    keep_with(name)


def _is_whole(folder: Path, sources: list[Path]) -> bool:
    # Numba compiles again what was touched since, even where it is as before.
    whole = folder / _WHOLE
    return whole.exists() and whole.stat().st_mtime_ns > max(path.stat().st_mtime_ns for path in sources)


def _compile_apart(source: Path, folder: Path) -> None:
    """Compile a module in a process of its own, as a compiler never gives back some 600 MB of what it took.

    Where that fails the caller's import compiles, and raises what there is to raise.
    """
    module = ".".join(source.relative_to(_ROOT).with_suffix("").parts)
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}"],
        cwd=_ROOT,
        env=os.environ | {_APART: "1", "PYTHONPATH": str(_ROOT)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode == 0:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _WHOLE).touch()


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


def _writable() -> Path | None:
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mesi"
    for folder in (PRODUCT / "__pycache__", home):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return None
