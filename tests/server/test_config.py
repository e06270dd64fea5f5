"""The configuration: defaults in two places kept equal, and every fault named with its line."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.addresses import MediaAddress, outward_address, parse_address
from server.complaints import ConfigError
from server.config import LISTED, Config, Listen, load, override
from server.cores import usable_cores

SHIPPED = Path(__file__).resolve().parents[2] / "config.toml"

WEBHOOK = '[[webhooks]]\nname = "w"\nsecrets = ["whsec_' + "A" * 32 + '"]\n'
FAULTS = {
    "[listen]\nprot = 1\n": "line 2: listen.prot: is not known here; known there: host, port",
    "lisen = 3\n": "line 1: lisen: is not known here; known sections: listen,",
    '# a comment\n[listen]\n\nport = "80"\n': "line 4: listen.port: must be a whole number; it is text",
    "[listen]\nport = 70000\n": "line 2: listen.port: must be a whole number <= 65535",
    "[tokens]\nsession_s = true\n": "line 2: tokens.session_s: must be a whole number; it is true or false",
    "[limits]\nbody_bytes = 1.5\n": "line 2: limits.body_bytes: must be a whole number; it is a fraction",
    "[limits]\nhead_timeout_s = nan\n": "line 2: limits.head_timeout_s: must be a number > 0.0",
    '[log]\nlevel = "loud"\n': "line 2: log.level: invalid enum value 'loud'; one of debug, info, warning, error",
    '[media]\nadvertise = [\n  "1.2.3.4:5",\n  7,\n]\n': "line 2: media.advertise[1]: must be text",
    '[media]\nport = 1\nadvertise = ["nat"]\n': 'line 3: media.advertise: "nat" must be "IP:PORT"',
    '[media]\nhost = ["::1", "::"]\n': "line 2: media.host: must be addresses of this machine",
    '[media]\nhost = ["::1", "::1"]\n': "line 2: media.host: names an address twice",
    '[media]\nhost = "localhost"\n': "line 2: media.host: must be an IP address",
    "[media]\nworkers = 0\n": "line 2: media.workers: must be a whole number >= 1",
    "[media]\nworkers = 17\n": "line 2: media.workers: must be a whole number <= 16",
    '[media]\nworkers = "all"\n': "line 2: media.workers: ",
    "[media]\nworkers = 4\nport = 65533\n": "line 3: media.port: leaves no numbers for 4 workers",
    '[[ice_servers]]\nurl = "stun:a"\n[[ice_servers]]\nurl = "http://b"\n': "line 4: ice_servers[1].url: must be text",
    '[[ice_servers]]\nurl = "turn:a"\nusername = "b"\nsecret = "c"\n': "line 4: ice_servers[0].secret: takes the place",
    '[[ice_servers]]\nurl = "stun:a"\n[[ice_servers]]\nusername = ""\n[log]\n': "line 3: ice_servers[1].url: is miss",
    '"a.b" = 1\n': "line 1: 'a.b': is not known here",
    '"\\n" = 1\n': r"line 1: '\n': is not known here",
    '[[assets]]\ncode = "usd"\n': "line 2: assets[0].code: must be text that matches",
    '[[assets]]\ncode = "USD"\nsupply = 5\n': "line 3: assets[0].supply: must be text; it is a whole number",
    '[log]\n[[assets]]\ncode = "USD"\n[[assets]]\ncode = "USD"\n': "line 2: assets: USD is there twice",
    '[[assets]]\ncode = "USD"\n': "line 1: exchange: USD to MESI: the assets here are USD",
    '[[assets]]\ncode = "USD"\nfee = 1\n': "line 3: assets[0].fee: is not known here; known there: code, scale,",
    '[[exchange]]\nasset = "USD"\ntarget = "MESI"\nrate = "0.0"\n': "line 1: exchange: USD to MESI: the rate must be",
    '[[exchange]]\nasset = "USD"\ntarget = "MESI"\nrate = 1.5\n': "line 4: exchange[0].rate: must be text; it is",
    WEBHOOK + 'url = "http://a.example/"\n': "line 4: webhooks[0].url: must begin with https://, or its webhook be",
    WEBHOOK + 'url = "https://a"\n' + WEBHOOK + 'url = "https://b"\n': "line 6: webhooks[1].name: w is there twice",
    WEBHOOK + 'url = "https://a"\nevents = ["Tip"]\n': "line 5: webhooks[0].events[0]: must be text that matches",
    WEBHOOK.replace("A", "") + 'url = "https://a"\n': "line 3: webhooks[0].secrets[0]: must be text that matches",
    WEBHOOK.replace("A", "AA", 1) + 'url = "https://a"\n': "line 3: webhooks[0].secrets[0]: must be whsec_ and then",
    "listen = 3\n": "line 1: listen: must be an object with named fields; it is a whole number",
    "[log]\n[listen\n": "line 2: not TOML: Expected ']' at the end of a table declaration",
    "[log]\na = [\n": "line 2: not TOML: ",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def test_the_shipped_file_holds_every_key_with_its_default() -> None:
    assert load(SHIPPED) == Config()
    text = SHIPPED.read_text()
    for section in Config.__struct_fields__:
        part = re.search(rf"^(?:# )?\[+{section}\]+.*?(?=^(?:# )?\[|\Z)", text, re.MULTILINE | re.DOTALL)
        assert part is not None, section
        kind = msgspec.structs.fields(Config)[Config.__struct_fields__.index(section)].default
        names = kind.__struct_fields__ if isinstance(kind, msgspec.Struct) else LISTED[section].__struct_fields__
        assert re.findall(r"^(?:# )?(\w+) = ", part[0], re.MULTILINE) == list(names)


def test_without_a_file_the_defaults_hold() -> None:
    assert load(None) == Config()


@pytest.mark.parametrize("text", FAULTS, ids=FAULTS.values())
def test_a_fault_is_named_with_its_file_and_line(text: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert str(refused.value).startswith(f"{file} {FAULTS[text]}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])
def test_a_wildcard_media_address_is_refused_with_the_machines_own_named(wildcard: str, file: Path) -> None:
    file.write_text(f'[media]\nhost = "{wildcard}"\n')
    with pytest.raises(ConfigError, match=r"line 2: media\.host: .* any of 127\.0\.0\.1"):
        load(file)
    with pytest.raises(ConfigError, match=r"media\.host: .* any of 127\.0\.0\.1"):
        override(Config(), media=f"[{wildcard}]:7882")


def test_a_file_that_is_missing_or_not_text_or_too_large_is_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        load(file)
    file.write_bytes(b"[log]\n\xff")
    with pytest.raises(ConfigError, match="line 2: not UTF-8"):
        load(file)
    file.write_bytes(b"#" * 70_000)
    with pytest.raises(ConfigError, match="larger than 64 KiB"):
        load(file)


def test_the_command_line_overrides_the_file() -> None:
    config = override(Config(), listen="[::1]:0", media="127.0.0.1:9", data="/elsewhere")
    assert (config.listen, config.media.port, config.data.dir) == (Listen("::1", 0), 9, "/elsewhere")


@pytest.mark.parametrize("text", ["", "8080", ":1", "a:70000", "a:b", "::1:80", "a:1:2", "[::1]", "a b:1"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--listen .*: must be HOST:PORT"):
        parse_address(text, "--listen")


VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["port", "host", "x.y"]), inner),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(section=st.sampled_from([*Config.__struct_fields__, "other"]), value=VALUES)
def test_any_value_is_either_taken_or_refused_in_words(section: str, value: object, file: Path) -> None:
    file.write_text(f"{section} = {_toml(value)}\n", newline="")
    with contextlib.suppress(ConfigError):
        load(file)


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return '"' + "".join(f"\\U{ord(letter):08X}" for letter in value) + '"'
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f'"{name}" = {_toml(inner)}' for name, inner in value.items()) + "}"
        case _:
            return repr(value)


def test_media_arrives_where_every_browser_of_this_machine_pairs_an_address_unless_told_otherwise() -> None:
    (settled,) = override(load(None)).media.hosts
    assert settled == outward_address() != "auto"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((settled, 0))  # it is this machine's
    assert override(load(None), media="127.0.0.1:7000").media.hosts == ("127.0.0.1",)


def test_there_is_one_worker_unless_a_number_is_said_or_one_for_each_core_that_may_be_used(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    quota = tmp_path / "cpu.max"
    assert usable_cores(quota) == cores
    for text, expected in (("max 100000", cores), ("150000 100000", min(cores, 2)), ("20000 100000", 1)):
        quota.write_text(text)
        assert usable_cores(quota) == expected
    assert override(Config()).media.threads == 1
    assert MediaAddress(workers="auto").threads == min(usable_cores(), 16)
    said = override(Config(), media="127.0.0.1:7000", workers=3).media
    assert (said.threads, said.ports) == (3, (7000, 7001, 7002))
    with pytest.raises(ConfigError, match=r"media\.port: leaves no numbers for 3 workers"):
        override(Config(), media="127.0.0.1:65534", workers=3)
