"""The self-made certificate: trusted by name, renewed in time while the server runs, and by the command line."""

from __future__ import annotations

import datetime
import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing
from cryptography import x509

from server.addresses import own_addresses
from server.cli.remote import Remote
from server.connections import tls
from tests.server.nodes import small_config
from tests.server.thread_node import thread_node


def certificate(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes())


async def shown(context: ssl.SSLContext, trusted: Path, name: str = "localhost") -> int:
    """Return the serial number of the certificate that a new connection is shown, after it has been trusted."""
    here, there = trio.testing.memory_stream_pair()
    client = trio.SSLStream(here, ssl.create_default_context(cafile=str(trusted)), server_hostname=name)
    server = trio.SSLStream(there, context, server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        await client.do_handshake()
    found = client.getpeercert(binary_form=True)
    assert isinstance(found, bytes)
    return x509.load_der_x509_certificate(found).serial_number


async def test_it_is_kept_over_a_restart_and_its_key_is_the_owners_alone(tmp_path: Path) -> None:
    first = tls.server_context(tmp_path, "127.0.0.1")
    serial = await shown(first, tmp_path / "tls.crt")
    assert await shown(tls.server_context(tmp_path, "127.0.0.1"), tmp_path / "tls.crt", "127.0.0.1") == serial
    assert (tmp_path / "tls.key").stat().st_mode & 0o077 == 0


async def test_it_is_renewed_before_it_ends_for_connections_that_come_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(tls, "VALID", datetime.timedelta(days=31))
    context = tls.server_context(tmp_path, "127.0.0.1")
    old = await shown(context, tmp_path / "tls.crt")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tls.keep_fresh, context, tmp_path, "127.0.0.1")
        await trio.sleep(86_400)
        assert await shown(context, tmp_path / "tls.crt") == old
        monkeypatch.setattr(tls, "RENEW", datetime.timedelta(days=32))  # as if two days had passed
        monkeypatch.setattr(tls, "VALID", datetime.timedelta(days=365))
        await trio.sleep(tls.LOOK_EVERY_S + 1)
        new = await shown(context, tmp_path / "tls.crt")
        assert new != old
        (tmp_path / "tls.crt").unlink()
        (tmp_path / "tls.crt").mkdir()  # a disk that can't be written: the old one serves on
        await trio.sleep(tls.LOOK_EVERY_S + 1)
        (tmp_path / "tls.crt").rmdir()
        await trio.sleep(tls.LOOK_EVERY_S + 1)
        assert await shown(context, tmp_path / "tls.crt") not in (old, new)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("damage", ["another key", "no key", "garbage", "another name", "half"])
def test_one_that_does_not_serve_is_replaced(tmp_path: Path, damage: str) -> None:
    tls.server_context(tmp_path, "127.0.0.1")
    serial = certificate(tmp_path).serial_number
    pem = (tmp_path / "tls.crt").read_bytes()
    if damage == "another key":
        (tmp_path / "other").mkdir()
        tls.server_context(tmp_path / "other", "127.0.0.1")
        (tmp_path / "tls.key").write_bytes((tmp_path / "other" / "tls.key").read_bytes())
    elif damage == "no key":
        (tmp_path / "tls.key").unlink()
    elif damage == "garbage":
        (tmp_path / "tls.crt").write_bytes(b"\xff\xff")
    elif damage == "half":
        (tmp_path / "tls.crt").write_bytes(pem[: len(pem) // 2])
    tls.server_context(tmp_path, "192.0.2.7" if damage == "another name" else "127.0.0.1")
    assert certificate(tmp_path).serial_number != serial


def test_on_all_addresses_it_names_each_of_the_machine(tmp_path: Path) -> None:
    tls.server_context(tmp_path, "0.0.0.0")
    names = certificate(tmp_path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    listed = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert {address.split("%")[0] for address in own_addresses()} <= listed
    assert "localhost" in names.get_values_for_type(x509.DNSName)


def test_the_command_line_trusts_it_and_no_other(tmp_path: Path) -> None:
    with thread_node(small_config(tmp_path / "data")) as node:
        url = f"https://localhost:{node.address[1]}"
        token = (node.folder / "admin.token").read_text().strip()
        assert Remote(url, token, node.folder / "tls.crt").ask("GET", "/me")["admin"]
        tls.server_context(tmp_path, "localhost")
        command = [sys.executable, "-m", "server.cli", "stream", "list", "--data", str(tmp_path), "--server", url]
        environment = {**os.environ, "MESI_ADMIN_TOKEN": token}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30)
        assert done.returncode == 1
        assert "certificate verify failed" in done.stderr
        assert "Traceback" not in done.stderr
        (tmp_path / "tls.crt").write_text("no certificate")
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30)
        assert "is no certificate" in done.stderr
        assert "Traceback" not in done.stderr
