"""What is compiled is compiled once, and not in the process that serves."""

import os
from pathlib import Path

import numba
import pytest

from media.io import compiled
from media.io.compiled import keep_compiled


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(compiled, "_ROOT", tmp_path)
    monkeypatch.setattr(compiled, "PRODUCT", tmp_path)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    return tmp_path / "small.py"


def test_a_module_is_compiled_once_by_another_process(source: Path) -> None:
    source.write_text("import os\nprint(os.getpid(), file=open('compiled_by', 'a'))\n")
    keep_compiled("small", str(source))
    keep_compiled("small", str(source))
    (process,) = source.with_name("compiled_by").read_text().split()
    assert int(process) != os.getpid()


def test_what_changed_is_compiled_again(source: Path) -> None:
    for word in ("once", "again"):  # of other lengths, which is all that Python looks at within a second
        source.write_text(f"print('{word}', file=open('compiled', 'a'))\n")
        keep_compiled("small", str(source))
    assert source.with_name("compiled").read_text().split() == ["once", "again"]


def test_what_did_not_compile_is_tried_again(source: Path) -> None:
    source.write_text("print(1, file=open('tried', 'a'))\nraise MemoryError\n")
    keep_compiled("small", str(source))
    keep_compiled("small", str(source))
    assert source.with_name("tried").read_text().split() == ["1", "1"]


def test_what_was_touched_is_compiled_again(source: Path) -> None:
    source.write_text("print(1, file=open('compiled', 'a'))\n")
    keep_compiled("small", str(source))
    later = source.stat().st_mtime + 60
    os.utime(source, (later, later))
    keep_compiled("small", str(source))
    assert source.with_name("compiled").read_text().split() == ["1", "1"]
