"""Files in an S3-compatible store: whole, in parts, removed, and what happens when the store is not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from server.files import objects
from server.files.objects import Bucket, StorageSettings
from tests.files.buckets import names_in, s3_server
from tests.files.samples import placed_picture
from tests.files.sending import send
from tests.server.nodes import open_site, small_config

LARGE = bytes(range(256)) * 50_000  # several parts of an upload


@pytest.fixture(scope="module")
def bucket() -> Iterator[StorageSettings]:
    with s3_server() as settings:
        yield settings


async def test_what_is_kept_is_read_in_parts_until_it_is_removed(tmp_path: Path, bucket: StorageSettings) -> None:
    storage, path = Bucket(bucket), tmp_path / "content"
    path.write_bytes(LARGE)
    await storage.keep("f_large", path)
    assert not path.exists()
    assert "some/place/f_large" in names_in(bucket)
    assert await storage.read("f_large", 0, 10) == LARGE[:10]
    assert await storage.read("f_large", len(LARGE) - 5, 100) == LARGE[-5:]
    await storage.remove("f_large")
    await storage.remove("f_large")
    with pytest.raises(FileNotFoundError):
        await storage.read("f_large", 0, 1)


async def test_a_store_that_is_not_there_fails_in_bounded_time_as_a_disk_would(
    tmp_path: Path, bucket: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "RETRIES", 0)
    storage, path = Bucket(msgspec.structs.replace(bucket, endpoint="http://127.0.0.1:1")), tmp_path / "content"
    path.write_bytes(b"x")
    with pytest.raises(OSError, match="object store"):
        await storage.keep("f_x", path)
    assert path.exists()
    with pytest.raises(OSError, match="object store"):
        await storage.read("f_x", 0, 1)


async def test_a_node_serves_files_from_the_store_and_another_on_its_data_does_too(
    tmp_path: Path, bucket: StorageSettings
) -> None:
    config = msgspec.structs.replace(small_config(tmp_path), storage=bucket)
    async with open_site(tmp_path, config) as site:
        ann = await site.person("ann")
        sent = await send(ann, placed_picture(), "harbour.jpg")
        assert sent["state"] == "ready"
        assert f"some/place/{sent['id']}" in names_in(bucket)
        assert not [path for path in (tmp_path / "files").rglob("*") if path.is_file()]
    async with open_site(tmp_path, config) as site:
        ann = await site.person("ann")
        headers = {"Authorization": f"Bearer {ann.token}"}
        path = f"/api/v1/files/{sent['id']}"
        whole = (await site.http.get(path, headers=headers)).content
        part = await site.http.get(path, headers={**headers, "Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, whole[10:20])
        assert (await site.http.get(f"{path}/preview", headers=headers)).status_code == 200
