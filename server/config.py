"""The configuration of a node: every key, its default and its bounds, and how a file of them is read."""

from __future__ import annotations

import base64
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from server.addresses import AUTO, Host, MediaAddress, Port, check_media, outward_address, parse_address
from server.complaints import Complaint, ConfigError, explain
from server.files.objects import StorageSettings
from server.files.settings import FileSettings, FileSpace
from server.money.assets import DEFAULTS, Assets, AssetSettings
from server.money.quotes import DEFAULT_RATES, RateSettings, fixed_rates
from server.push.settings import Push
from server.review.settings import Review
from server.talk.settings import MessageQuota, Messages

HINTS = {
    "ice_servers.url": '; write it like "turn:turn.example.org:3478"',
    "log.level": "; one of debug, info, warning, error",
}
MAX_FILE_BYTES = 65_536  # nobody writes more by hand; also bounds the search for the line of a fault
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
PerSecond = Annotated[float, Meta(gt=0, le=1_000_000)]
Region = Annotated[str, Meta(pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$")]  # ISO 3166-1 alpha-2, or 3166-2
Secret = Annotated[str, Meta(pattern=r"^whsec_[A-Za-z0-9+/]{32,88}={0,2}$")]  # Standard Webhooks: 24 to 64 bytes
Burst = Annotated[int, Meta(ge=1, le=1_000_000)]


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where HTTP and the signalling socket are served (one TCP port). Port 0 takes any free one."""

    host: Host = "127.0.0.1"
    port: Port = 8080


class Quic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where MoQ players and publishers arrive over QUIC (one UDP port).

    Without a host it is that of `listen`; port 0 is the number of the TCP port, where players look for it. `names` are
    those besides its own address that the certificate is made for.
    """

    host: Annotated[str, Meta(max_length=253)] = ""
    port: Port = 0
    names: Annotated[tuple[Host, ...], Meta(max_length=32)] = ()
    connections: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000


class IceServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A STUN or TURN server that clients are told of (RFC 9725 section 4.6).

    With a `secret`, which the TURN server shares, each account gets credentials of its own that last `lifetime_s`.
    """

    url: Annotated[str, Meta(pattern=r"^(stun|stuns|turn|turns):[\w.:\[\]-]+(\?transport=(udp|tcp))?$")]
    username: Annotated[str, Meta(max_length=512, pattern=r'^[^"\\\x00-\x1f\x7f]*$')] = ""
    credential: Annotated[str, Meta(max_length=512, pattern=r'^[^"\\\x00-\x1f\x7f]*$')] = ""
    secret: Annotated[str, Meta(max_length=512)] = ""
    lifetime_s: Annotated[int, Meta(ge=60, le=2_592_000)] = 86_400


class ProviderSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A payment provider: where it is asked, and the secret that it and this server sign with (Standard Webhooks)."""

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
    url: Annotated[str, Meta(pattern=r"^https?://[^\s]+$", max_length=512)]
    secret: Secret


class WebhookSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A service that is told what happens: where, signed with which secrets (all at once, to change them), and of what.

    `events` are types such as "ticket.sold", "ticket.*", or "*". `private` lets the address be a private one, of this
    machine or its network, and be asked without TLS.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
    url: Annotated[str, Meta(pattern=r"^https?://[A-Za-z0-9._~:\[\]-]+(/[^\s#]*)?$", max_length=512)]
    secrets: Annotated[tuple[Secret, ...], Meta(min_length=1, max_length=4)]
    events: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^(\*|[a-z0-9_]+(\.[a-z0-9_]+)*(\.\*)?)$", max_length=64)], ...],
        Meta(min_length=1, max_length=64),
    ] = ("*",)
    private: bool = False


class Events(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long events can be read; a webhook that is behind keeps what it needs for longer."""

    keep_days: Annotated[int, Meta(ge=1, le=3650)] = 30


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where all state is kept; `database` is the address of a PostgreSQL database, "" for a SQLite file in `dir`."""

    dir: Annotated[str, Meta(min_length=1)] = "data"
    database: Annotated[str, Meta(pattern=r"^(postgresql://\S+)?$", max_length=1024)] = ""


class OneToOnes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a viewer is waited for whom a streamer has accepted for a one-to-one; 0 begins at once."""

    confirm_s: Annotated[int, Meta(ge=0, le=600)] = 60


class Money(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the platform keeps of each payment, in basis points (hundredths of a percent), and when tips may go out.

    Payments are taken back for weeks after. So what was tipped is spent at once, and withdrawn after a while; longer
    where somebody gave more within a day than the asset's `step_up_above`.
    """

    fee_bps: Annotated[int, Meta(ge=0, le=9_999)] = 1000
    withdraw_after_s: Annotated[int, Meta(ge=0, le=31_536_000)] = 86_400
    withdraw_large_after_s: Annotated[int, Meta(ge=0, le=31_536_000)] = 1_209_600


class Tokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long bearer tokens last."""

    session_s: Annotated[int, Meta(ge=60, le=2_592_000)] = 43_200
    longest_s: Annotated[int, Meta(ge=60, le=31_536_000)] = 31_536_000


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much one node carries at most."""

    connections: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000
    connections_per_address: Annotated[int, Meta(ge=1, le=1_000_000)] = 5_000
    head_timeout_s: Seconds = 10.0
    write_timeout_s: Seconds = 10.0
    body_bytes: Annotated[int, Meta(ge=1024, le=16_777_216)] = 65_536
    body_timeout_s: Seconds = 10.0
    rooms: Annotated[int, Meta(ge=1, le=2048)] = 2048
    transports: Annotated[int, Meta(ge=1, le=16_384)] = 16_384
    tracks: Annotated[int, Meta(ge=1, le=2048)] = 2048
    subscriptions: Annotated[int, Meta(ge=1, le=32_768)] = 32_768


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fast one asker may ask; what exceeds it is answered 429 with Retry-After."""

    account_per_s: PerSecond = 200.0
    account_burst: Burst = 2000
    address_per_s: PerSecond = 1000.0
    address_burst: Burst = 5000
    password_per_s: PerSecond = 1.0
    password_burst: Burst = 20
    guess_per_s: PerSecond = 1.0
    guess_burst: Burst = 30


class KyfKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A public key in PEM; `kid` as the issuer's tokens name it, empty when they name none."""

    public_key: Annotated[str, Meta(min_length=1, max_length=8192)]
    kid: Annotated[str, Meta(max_length=256)] = ""


class KyfIssuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose signed claims about people count, for which `audience`, by which one algorithm and which keys."""

    issuer: Annotated[str, Meta(min_length=1, max_length=256)]
    audience: Annotated[str, Meta(min_length=1, max_length=256)]
    algorithm: Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
    keys: Annotated[tuple[KyfKey, ...], Meta(min_length=1, max_length=16)]


class KyfThresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What everybody who streams or watches must have proven; 0, false and empty ask for nothing."""

    age_over: Annotated[int, Meta(ge=0, le=120)] = 0
    verified: bool = False
    regions_inside: Annotated[tuple[Region, ...], Meta(max_length=300)] = ()
    regions_outside: Annotated[tuple[Region, ...], Meta(max_length=300)] = ()
    tier: Annotated[int, Meta(ge=0, le=100)] = 0
    account_age_s: Annotated[int, Meta(ge=0, le=315_360_000)] = 0


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be set. Without a file these defaults hold."""

    listen: Listen = Listen()
    media: MediaAddress = MediaAddress()
    quic: Quic = Quic()
    ice_servers: Annotated[tuple[IceServer, ...], Meta(max_length=8)] = ()
    data: Data = Data()
    money: Money = Money()
    one_to_one: OneToOnes = OneToOnes()
    assets: Annotated[tuple[AssetSettings, ...], Meta(min_length=1, max_length=64)] = DEFAULTS
    exchange: Annotated[tuple[RateSettings, ...], Meta(max_length=256)] = DEFAULT_RATES
    payment_providers: Annotated[tuple[ProviderSettings, ...], Meta(max_length=16)] = ()
    webhooks: Annotated[tuple[WebhookSettings, ...], Meta(max_length=32)] = ()
    events: Events = Events()
    messages: Messages = Messages()
    files: FileSettings = FileSettings()
    storage: StorageSettings = StorageSettings()
    review: Review = Review()
    push: Push = Push()
    tokens: Tokens = Tokens()
    limits: Limits = Limits()
    rates: Rates = Rates()
    kyf: KyfThresholds = KyfThresholds()
    kyf_issuers: Annotated[tuple[KyfIssuer, ...], Meta(max_length=32)] = ()
    log: Log = Log()


# What the lists hold, by name; for naming what is known in them.
LISTED: dict[str, type[msgspec.Struct]] = {
    "ice_servers": IceServer,
    "assets": AssetSettings,
    "exchange": RateSettings,
    "payment_providers": ProviderSettings,
    "webhooks": WebhookSettings,
    "kyf_issuers": KyfIssuer,
    "quotas": MessageQuota,
    "space": FileSpace,
    "keys": KyfKey,
}


def load(path: Path | None = None) -> Config:
    """Read a file, or take the defaults when there is none; raises ConfigError."""
    if path is None:
        return Config()
    text = _read(path)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column \d+\)$", str(error))
        line = int(place[1]) if place else len(text.splitlines())
        raise ConfigError(f"{path} line {line}: not TOML: {str(error).split(' (at ')[0]}") from None
    try:
        config = msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        complaint = explain(str(error))
        raise ConfigError(f"{path} line {_line_of(complaint, text)}: {complaint}{_remedy(complaint)}") from None
    for where, problem in (
        *check_media(config.media),
        *check_ice(config),
        *check_money(config),
        *check_webhooks(config),
    ):
        raise ConfigError(f"{path} line {_line_of(Complaint(where, ''), text)}: {Complaint(where, problem)}")
    return config


def override(
    config: Config,
    *,
    listen: str | None = None,
    media: str | None = None,
    data: str | None = None,
    workers: int | None = None,
) -> Config:
    """Return the configuration with what the command line says instead, every address settled; raises ConfigError."""
    if listen is not None:
        host, port = parse_address(listen, "--listen")
        config = msgspec.structs.replace(config, listen=Listen(host, port))
    if media is not None:
        host, port = parse_address(media, "--media")
        config = msgspec.structs.replace(config, media=msgspec.structs.replace(config.media, host=host, port=port))
    if data is not None:
        config = msgspec.structs.replace(config, data=Data(data))
    if workers is not None:
        config = msgspec.structs.replace(config, media=msgspec.structs.replace(config.media, workers=workers))
    hosts = tuple(outward_address() if host == AUTO else host for host in config.media.hosts)
    config = msgspec.structs.replace(config, media=msgspec.structs.replace(config.media, host=hosts))
    for where, problem in check_media(config.media):
        raise ConfigError(str(Complaint(where, problem)))
    return config


def check_ice(config: Config) -> list[tuple[tuple[str | int, ...], str]]:
    """Return (where, what is wrong) for servers with two kinds of credentials."""
    return [
        (("ice_servers", number, "secret"), "takes the place of username and credential: leave those out")
        for number, server in enumerate(config.ice_servers)
        if server.secret and (server.username or server.credential)
    ]


def check_money(config: Config) -> list[tuple[tuple[str, ...], str]]:
    """Return (where, what is wrong) for what contradicts itself about money."""
    try:
        assets = Assets(config.assets)
    except ValueError as error:
        return [(("assets",), str(error))]
    try:
        fixed_rates(config.exchange, assets)
    except ValueError as error:
        return [(("exchange",), str(error))]
    names = [provider.name for provider in config.payment_providers]
    return [(("payment_providers",), f"{name} is there twice") for name in sorted(set(names)) if names.count(name) > 1]


def check_webhooks(config: Config) -> list[tuple[tuple[str | int, ...], str]]:
    """Return (where, what is wrong) for webhooks that contradict each other or themselves."""
    names = [webhook.name for webhook in config.webhooks]
    problems: list[tuple[tuple[str | int, ...], str]] = []
    for number, webhook in enumerate(config.webhooks):
        if webhook.name in names[:number]:
            problems.append((("webhooks", number, "name"), f"{webhook.name} is there twice"))
        problems += [
            (("webhooks", number, "secrets", place), "must be whsec_ and then 24 to 64 bytes in base64")
            for place, secret in enumerate(webhook.secrets)
            if not _is_secret(secret)
        ]
        if webhook.url.startswith("http:") and not webhook.private:
            problems.append((("webhooks", number, "url"), "must begin with https://, or its webhook be private = true"))
    return problems


def _is_secret(text: str) -> bool:
    try:
        return 24 <= len(base64.b64decode(text.removeprefix("whsec_"))) <= 64
    except ValueError:
        return False


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES // 1024} KiB; is it the right file?")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path} line {line}: not UTF-8 text") from None


def _line_of(complaint: Complaint, text: str) -> int:
    """Return the line on which the value at the complaint's path begins, counted from 1.

    The first lines of a TOML file are TOML themselves wherever no value is cut in two. So the line is the one after
    the longest such beginning that lacks the path.
    """
    lines = text.splitlines(keepends=True)
    without = 0
    for count in range(1, len(lines) + 1):
        try:
            values = tomllib.loads("".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
        if _holds(values, complaint.where):
            return without + 1
        without = count
    return _line_of(Complaint(complaint.where[:-1], ""), text) if complaint.where else 1


def _holds(values: Any, where: tuple[str | int, ...]) -> bool:
    for step in where:
        try:
            values = values[step]
        except (LookupError, TypeError):
            return False
    return True


def _remedy(complaint: Complaint) -> str:
    if not complaint.unknown:
        return HINTS.get(re.sub(r"\[\d+\]", "", complaint.path), "")
    known: Any = Config()
    name: str | int = ""
    for step in complaint.where[:-1]:
        known = LISTED[str(name)] if isinstance(step, int) else getattr(known, step)
        name = step
    names = ", ".join(known.__struct_fields__)
    return f"; known {'sections' if len(complaint.where) == 1 else 'there'}: {names}"
