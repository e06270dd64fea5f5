"""Uploads over HTTP by tus: whole or in parts, broken and resumed, bounded in every way."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
import trio

from server.files.arriving import Arriving
from server.files.rows import MAX_OPEN
from signalling.refusals import Refused
from tests.files import samples
from tests.files.sending import (
    begin,
    code_of,
    described,
    filing_site,
    go_on,
    hanging,
    read_answer,
    send,
    settled,
    tus,
    until,
)

UPLOADS = "/api/v1/uploads"
TEXT = b"Some words, again and again.\n" * 40_000  # more than one piece


async def test_what_is_served_is_said_to_everybody(tmp_path: Path) -> None:
    async with filing_site(tmp_path, largest_mib=3) as site:
        answer = await site.http.options(UPLOADS)
        assert answer.status_code == 204
        assert (answer.headers["Tus-Version"], answer.headers["Tus-Max-Size"]) == ("1.0.0", "3145728")
        assert "creation-with-upload" in answer.headers["Tus-Extension"]
        assert "Upload-Offset" in answer.headers["Access-Control-Expose-Headers"]
        assert "Upload-Offset" in answer.headers["Access-Control-Allow-Headers"]


async def test_a_file_is_sent_in_parts_and_kept(tmp_path: Path) -> None:
    async with filing_site(tmp_path) as site:
        ann = await site.person("ann")
        upload = await begin(ann, len(TEXT), "../../etc/pass\u202ewd\x00.txt")
        head = await tus(ann, "HEAD", upload)
        assert (head.headers["Upload-Offset"], head.headers["Cache-Control"]) == ("0", "no-store")
        expires = parsedate_to_datetime(head.headers["Upload-Expires"])
        assert 86_000 < (expires - parsedate_to_datetime(head.headers["Date"])).total_seconds() < 86_500
        for start in range(0, len(TEXT), 300_000):
            answer = await go_on(ann, upload, start, TEXT[start : start + 300_000])
            assert answer.headers["Upload-Offset"] == str(min(len(TEXT), start + 300_000))
        view = await settled(ann, upload)
        assert (view["state"], view["type"], view["name"]) == ("ready", "text/plain", "passwd.txt")
        assert (await ann.ask("GET", "/me/files"))["used"] == len(TEXT)
        with trio.fail_after(10):  # what it came from is removed once it is said to be ready
            while list((tmp_path / "files" / "arriving").iterdir()):  # noqa: ASYNC110
                await trio.sleep(0.02)


async def test_a_file_is_sent_with_the_request_that_begins_it(tmp_path: Path) -> None:
    async with filing_site(tmp_path) as site:
        ann = await site.person("ann")
        answer = await tus(ann, "POST", UPLOADS, TEXT, upload_length=str(len(TEXT)))
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, str(len(TEXT)))
        assert (await settled(ann, answer.headers["Location"]))["state"] == "ready"


async def test_a_broken_connection_is_resumed_where_it_broke(tmp_path: Path) -> None:
    async with filing_site(tmp_path) as site:
        ann = await site.person("ann")
        upload = await begin(ann, len(TEXT))

        async def half() -> AsyncIterator[bytes]:
            yield TEXT[: len(TEXT) // 2]
            with trio.fail_after(20):
                while (await tus(ann, "HEAD", upload)).headers["Upload-Offset"] == "0":
                    pass
            raise OSError("the network is gone")

        with pytest.raises(OSError, match="gone"):
            await go_on(ann, upload, 0, half())
        here = int((await tus(ann, "HEAD", upload)).headers["Upload-Offset"])
        assert 0 < here <= len(TEXT) // 2
        assert await code_of(await go_on(ann, upload, here - 1, TEXT[here - 1 :]), 409) == "upload_offset"
        assert (await go_on(ann, upload, here, TEXT[here:])).status_code == 204
        assert (await settled(ann, upload))["size"] == len(TEXT)


async def test_a_request_that_hangs_is_taken_over_by_the_next_of_its_owner(tmp_path: Path) -> None:
    async with filing_site(tmp_path) as site:
        ann, bob = await site.person("ann"), await site.person("bob")
        upload = await begin(ann, len(TEXT))
        async with hanging(ann, upload, TEXT[:300_000], len(TEXT)) as stream:
            here = 0
            with trio.fail_after(20):
                while not here:
                    here = int((await tus(ann, "HEAD", upload)).headers["Upload-Offset"])
                for method in ("PATCH", "DELETE"):
                    other = await tus(bob, method, upload, b"x", upload_offset=str(here))
                    assert await code_of(other, 404) == "upload_unknown"
                assert "mesi_uploads_sending 1.0" in (await site.http.get("/metrics")).text
                assert (await go_on(ann, upload, here, TEXT[here:])).status_code == 204
                answer = await read_answer(stream)
        assert answer.startswith(b"HTTP/1.1 409")
        assert b"upload_offset" in answer
        assert (await settled(ann, upload))["state"] == "ready"


async def test_an_upload_is_as_far_after_a_restart_and_one_that_was_whole_is_looked_at(tmp_path: Path) -> None:
    async with filing_site(tmp_path) as site:
        ann = await site.person("ann")
        upload, whole = await begin(ann, len(TEXT)), await begin(ann, 5)
        assert (await go_on(ann, upload, 0, TEXT[:400_000])).status_code == 204
        name = ann.name
    (tmp_path / "files" / "arriving" / whole.rsplit("/", 1)[1]).write_bytes(b"words")  # all but the row was written
    async with filing_site(tmp_path) as site:
        ann = await site.person(name)
        assert (await tus(ann, "HEAD", upload)).headers["Upload-Offset"] == "400000"
        assert (await go_on(ann, upload, 400_000, TEXT[400_000:])).status_code == 204
        assert (await settled(ann, upload))["state"] == "ready"
        assert (await tus(ann, "HEAD", whole)).headers["Upload-Offset"] == "5"
        assert (await settled(ann, whole))["state"] == "ready"


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
async def test_what_does_not_hash_to_what_was_said_is_not_kept(tmp_path: Path, algorithm: str) -> None:
    async with filing_site(tmp_path) as site:
        ann = await site.person("ann")
        upload = await begin(ann, len(TEXT))
        said = f"{algorithm} {base64.b64encode(hashlib.new(algorithm, TEXT).digest()).decode()}"
        wrong = TEXT[:-1] + b"?"
        assert await code_of(await go_on(ann, upload, 0, wrong, upload_checksum=said), 460) == "checksum_mismatch"
        assert (await tus(ann, "HEAD", upload)).headers["Upload-Offset"] == "0"
        assert (await go_on(ann, upload, 0, TEXT, upload_checksum=said)).status_code == 204


async def test_the_hash_of_the_whole_is_held_to(tmp_path: Path) -> None:
    async with filing_site(tmp_path) as site:
        ann = await site.person("ann")
        upload = await begin(ann, len(TEXT), sha256=hashlib.sha256(b"another").hexdigest())
        await go_on(ann, upload, 0, TEXT)
        view = await settled(ann, upload)
        assert (view["state"], view["problem"]) == ("refused", "checksum_mismatch")
        assert (await ann.ask("GET", "/me/files"))["used"] == 0


async def test_an_upload_given_up_is_gone_and_its_space_is_free(tmp_path: Path) -> None:
    async with filing_site(tmp_path) as site:
        ann, bob = await site.person("ann"), await site.person("bob")
        upload = await begin(ann, len(TEXT))
        await go_on(ann, upload, 0, TEXT[:300_000])
        for method in ("HEAD", "DELETE"):
            assert (await tus(bob, method, upload)).status_code == 404
        assert (await ann.ask("GET", "/me/files"))["used"] == len(TEXT)
        assert (await tus(ann, "DELETE", upload)).status_code == 204
        assert (await tus(ann, "HEAD", upload)).status_code == 404
        assert await code_of(await go_on(ann, upload, 0, TEXT), 404) == "upload_unknown"
        assert (await ann.ask("GET", "/me/files"))["used"] == 0
        await until(lambda: not list((tmp_path / "files" / "arriving").iterdir()))


# what is sent: (headers, status, code)
REFUSED: dict[str, tuple[dict[str, str], int, str]] = {
    "another version": ({"tus_resumable": "0.2.2", "upload_length": "5"}, 412, "tus_version"),
    "no length": ({}, 400, "malformed_header"),
    "a length to be said later": ({"upload_defer_length": "1"}, 400, "malformed_header"),
    "a negative length": ({"upload_length": "-5"}, 400, "malformed_header"),
    "no number": ({"upload_length": "5e1"}, 400, "malformed_header"),
    "nothing": ({"upload_length": "0"}, 422, "upload_empty"),
    "too much": ({"upload_length": str(3 * 1024 * 1024 + 1)}, 413, "upload_too_large"),
    "far too much": ({"upload_length": "9" * 15}, 413, "upload_too_large"),
    "more than the space": ({"upload_length": str(3 * 1024 * 1024)}, 413, "space_used"),
    "no base64": ({"upload_length": "5", "upload_metadata": "filename ?"}, 400, "malformed_header"),
    "no text": ({"upload_length": "5", "upload_metadata": "filename /w=="}, 400, "malformed_header"),
    "two names": ({"upload_length": "5", "upload_metadata": "name YQ==,name YQ=="}, 400, "malformed_header"),
    "no hash": ({"upload_length": "5", "upload_metadata": described(sha256="a")}, 400, "malformed_header"),
}


async def test_what_can_not_be_begun_is_named_and_takes_no_space(tmp_path: Path) -> None:
    async with filing_site(tmp_path, largest_mib=3, space=[{"tier": 0, "mib": 2}]) as site:
        ann = await site.person("ann")
        for name, (headers, status, code) in REFUSED.items():
            answer = await tus(ann, "POST", UPLOADS, **headers)
            assert (answer.status_code, answer.json()["code"]) == (status, code), name
        assert await ann.ask("GET", "/me/files") == {"used": 0, "limit": 2 * 1024 * 1024}


async def test_bytes_that_are_not_wanted_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    async with filing_site(tmp_path) as site:
        ann = await site.person("ann")
        upload = await begin(ann, 1000)
        plain = await go_on(ann, upload, 0, b"text", content_type="text/plain")
        assert await code_of(plain, 415) == "unsupported_media_type"
        assert await code_of(await tus(ann, "PATCH", upload, b"text"), 400) == "malformed_header"
        assert await code_of(await go_on(ann, upload, 7, b"text"), 409) == "upload_offset"
        assert await code_of(await go_on(ann, upload, 0, TEXT), 413) == "upload_too_long"
        odd = await go_on(ann, upload, 0, b"text", upload_checksum="crc32 AAAA")
        assert await code_of(odd, 400) == "malformed_header"
        assert (await tus(ann, "HEAD", upload)).headers["Upload-Offset"] == "0"


async def test_what_begins_like_nothing_that_is_taken_is_refused_at_once(tmp_path: Path) -> None:
    async with filing_site(tmp_path) as site:
        ann = await site.person("ann")
        upload = await begin(ann, 10**9, "holiday.png")
        answer = await go_on(ann, upload, 0, b"\x7fELF" + bytes(1_000_000))
        assert await code_of(answer, 415) == "file_type_not_allowed"
        view = await settled(ann, upload)
        assert (view["state"], view["problem"]) == ("refused", "file_type_not_allowed")
        assert (await ann.ask("GET", "/me/files"))["used"] == 0
        assert await code_of(await go_on(ann, upload, 0, TEXT), 409) == "upload_offset"


async def test_a_bomb_is_named_and_the_next_file_is_taken(tmp_path: Path) -> None:
    async with filing_site(tmp_path) as site:
        ann = await site.person("ann")
        view = await send(ann, samples.bomb(), "bomb.png")
        assert (view["state"], view["problem"]) == ("refused", "file_too_demanding")
        assert (await send(ann, samples.picture()))["state"] == "ready"


async def test_an_account_has_so_many_open_uploads_at_most(tmp_path: Path) -> None:
    async with filing_site(tmp_path) as site:
        ann = await site.person("ann")
        uploads = [await begin(ann, 10) for _ in range(MAX_OPEN)]
        answer = await tus(ann, "POST", UPLOADS, upload_length="10")
        assert await code_of(answer, 429) == "too_many_uploads"
        assert "Retry-After" in answer.headers
        await tus(ann, "DELETE", uploads[0])
        await begin(ann, 10)
        await begin(await site.person("bob"), 10)


async def test_a_body_that_stands_still_is_ended_and_what_came_stays(tmp_path: Path) -> None:
    async with filing_site(tmp_path) as site:
        ann = await site.person("ann")
        upload = await begin(ann, len(TEXT))
        async with hanging(ann, upload, TEXT[:300_000], len(TEXT)) as stream:
            with trio.fail_after(20):
                answer = await read_answer(stream)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"request_timeout" in answer
        assert int((await tus(ann, "HEAD", upload)).headers["Upload-Offset"]) >= 262_144


async def test_a_disk_that_is_full_is_said(tmp_path: Path) -> None:
    arriving = Arriving(tmp_path / "arriving", 0)
    arriving.path("full").symlink_to("/dev/full")
    with pytest.raises(Refused, match="storage_full"):
        await arriving.write("full", 0, TEXT)
    async with filing_site(tmp_path / "other", keep_free_mib=2**30) as site:
        ann = await site.person("ann")
        answer = await tus(ann, "POST", UPLOADS, upload_length="5")
        assert await code_of(answer, 507) == "storage_full"


async def test_space_is_counted_once_however_many_ask_for_it(tmp_path: Path) -> None:
    async with filing_site(tmp_path, space=[{"tier": 0, "mib": 1}]) as site:
        ann = await site.person("ann")
        codes: list[int] = []

        async def ask() -> None:
            codes.append((await tus(ann, "POST", UPLOADS, upload_length="200000")).status_code)

        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(ask)
        assert sorted(codes) == [201] * 5 + [413] * 7
        assert (await ann.ask("GET", "/me/files"))["used"] == 1_000_000
