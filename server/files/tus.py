"""The headers of the tus protocol 1.0.0 (https://tus.io/protocols/resumable-upload), read and written.

Those that are read come by their names in small letters.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate

from server.problems import Problem

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration,termination,checksum"
ALGORITHMS = ("sha1", "sha256", "md5")
OFFSET_STREAM = "application/offset+octet-stream"
MAX_METADATA = 4096  # characters; a name and a type have less than 600
MAX_DIGITS = 15
KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,64}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class NewUpload:
    """What an upload is declared to be: bytes, what it is called, and its SHA-256 in hexadecimal, "" for not said."""

    size: int
    name: str
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Checksum:
    """What the bytes of one request hash to."""

    algorithm: str
    digest: bytes


def require_version(headers: Mapping[str, str]) -> None:
    """Let those in who speak this version. Raises Problem("tus_version")."""
    if headers.get("tus-resumable") != VERSION:
        raise Problem("tus_version", headers={"Tus-Version": VERSION})


def new_upload_untrusted(headers: Mapping[str, str]) -> NewUpload:
    """Return what is to be uploaded. Raises Problem("malformed_header")."""
    size = count_untrusted(headers, "upload-length")
    described = metadata_untrusted(headers.get("upload-metadata", ""))
    sha256 = described.get("sha256", "").lower()
    if sha256 and SHA256.fullmatch(sha256) is None:
        raise Problem("malformed_header", "sha256 in Upload-Metadata must be 64 hexadecimal digits")
    return NewUpload(size, described.get("filename") or described.get("name") or "", sha256)


def count_untrusted(headers: Mapping[str, str], name: str) -> int:
    """Return a header's number of bytes. Raises Problem("malformed_header"), also where there is none."""
    text = headers.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise Problem("malformed_header", f"{name} must be a number of bytes")
    return int(text)


def metadata_untrusted(text: str) -> dict[str, str]:
    """Return what Upload-Metadata says, by key. Raises Problem("malformed_header")."""
    if len(text) > MAX_METADATA:
        raise Problem("malformed_header", f"Upload-Metadata has at most {MAX_METADATA} characters")
    found: dict[str, str] = {}
    for pair in text.split(",") if text.strip() else ():
        key, _, value = pair.strip().partition(" ")
        if KEY.fullmatch(key) is None or key in found:
            raise Problem("malformed_header", "Upload-Metadata must be keys, each once, with values in base64")
        found[key] = _text_untrusted(value.strip())
    return found


def _text_untrusted(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        raise Problem("malformed_header", "a value in Upload-Metadata is not UTF-8 text in base64") from None


def checksum_untrusted(text: str) -> Checksum | None:
    """Return what Upload-Checksum says, None where it is not there. Raises Problem("malformed_header")."""
    if not text:
        return None
    algorithm, _, value = text.partition(" ")
    if algorithm not in ALGORITHMS:
        raise Problem("malformed_header", f"Upload-Checksum must be by one of {', '.join(ALGORITHMS)}")
    try:
        return Checksum(algorithm, base64.b64decode(value.strip(), validate=True))
    except (binascii.Error, ValueError):
        raise Problem("malformed_header", "Upload-Checksum is not in base64") from None


def said(offset: int, size: int, expires_ms: int | None) -> dict[str, str]:
    """Return the headers that say how far an upload is."""
    headers = {"Tus-Resumable": VERSION, "Upload-Offset": str(offset), "Upload-Length": str(size)}
    if expires_ms is not None and offset < size:
        headers["Upload-Expires"] = formatdate(expires_ms / 1000, usegmt=True)
    return headers


def offered(largest: int) -> dict[str, str]:
    """Return the headers that say what is served."""
    return {
        "Tus-Resumable": VERSION,
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(largest),
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
    }
