"""`python -m server.files.worker`: makes one file harmless, in a process of its own that has little to lose.

It gets open files and no names: what to read, where to write, and standard output for its report, which is JSON. It is
confined before a library gets to see the file, and no library is loaded that is not needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator

from server.files.confinement import bound, shut_in
from server.files.judged import NotTaken, write_all
from server.files.sniffing import Kind, is_text_untrusted, sniff_untrusted

HEAD = 512
PIECE = 1_048_576


def main(arguments: list[str]) -> None:
    """Make a file harmless: from a descriptor, into two others (the content, a small picture); report what it is."""
    source, content, preview, largest = (int(number) for number in arguments[:4])
    bound(largest)
    try:
        report = judge(source, content, preview, arguments[4])
    except NotTaken as problem:
        report = {"problem": str(problem)}
    except MemoryError:
        report = {"problem": "file_too_demanding"}
    print(json.dumps(report), flush=True)  # noqa: T201


def judge(source: int, content: int, preview: int, sha256: str) -> dict[str, object]:
    """Write what is kept of a file; returns its type and facts. Raises NotTaken."""
    with open(source, "rb", closefd=False) as given:
        if sha256 and hashlib.file_digest(given, "sha256").hexdigest() != sha256:
            raise NotTaken("checksum_mismatch")
        given.seek(0)
        head = given.read(HEAD)
    size = os.fstat(source).st_size
    kind = sniff_untrusted(head, whole=size <= HEAD)
    if kind is None:
        raise NotTaken("file_type_not_allowed")
    return {"type": kind.type, **_of_family(kind, source, content, preview)}


def _of_family(kind: Kind, source: int, content: int, preview: int) -> dict[str, object]:
    """Load what reads a family of files, and only then, shut in, read one."""
    match kind.family:
        case "picture":
            from server.files import pictures

            shut_in([])
            return pictures.redraw(kind.name, source, content, preview)
        case "recording":
            from server.files import recordings

            shut_in([content])
            return recordings.remux(kind, source, content, preview)
        case "text":
            return _copy_text(source, content)
        case _:
            for part in _parts(source):
                write_all(content, part)
            return {}


def _copy_text(source: int, content: int) -> dict[str, object]:
    left = b""
    for part in _parts(source):
        write_all(content, part)
        if not is_text_untrusted(left + part, whole=False):
            raise NotTaken("file_type_not_allowed")
        left = _cut_character(left + part)
    if left:
        raise NotTaken("file_type_not_allowed")
    return {}


def _cut_character(part: bytes) -> bytes:
    """Return the beginning of the character in which a text is cut."""
    for length in range(1, min(4, len(part) + 1)):
        try:
            part[-length:].decode()
        except UnicodeDecodeError as error:
            if error.start == 0 and error.reason == "unexpected end of data":
                return part[-length:]
        else:
            return b""
    return b""


def _parts(source: int) -> Iterator[bytes]:
    at = 0
    while part := os.pread(source, PIECE, at):
        at += len(part)
        yield part


if __name__ == "__main__":
    main(sys.argv[1:])
