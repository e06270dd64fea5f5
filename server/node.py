"""Wires one node together: store, rooms, media, web and the edge, in one nursery."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
import trio
from sqlalchemy.exc import DBAPIError

from media.door import Media, MediaSettings
from media.forwarding.forwarder import Limits as MediaLimits
from media.moq.carriers.byte_session import ByteService, ByteServices
from media.moq.carriers.websocket import QmuxSocket
from media.moq.quic.configuration import EndpointSettings
from media.moq.quic.endpoint import Endpoint
from server import metrics
from server.access.claims import Issuers, demanded
from server.access.consent import Consent
from server.access.guests import Guests
from server.access.people import People
from server.access.proofs import Proofs
from server.access.service import Access
from server.addresses import bracketed, parse_address
from server.auth import Auth
from server.config import Config
from server.connections.edge import Address, Edge
from server.connections.signalling_socket import WEBTRANSPORT_PROTOCOLS, SignallingSocket
from server.connections.tls import keep_fresh, server_context
from server.database.archive import StoredArchive
from server.database.postgres import PostgresStore
from server.database.sole_use import DatabaseTaken, SoleUse
from server.database.store import Store, StoreFailed
from server.money.assets import Assets
from server.money.one_to_one_desk import OneToOneDesk
from server.money.tips import TipsGiven
from server.moq import MoqReception
from server.parts.bidding import open_bids
from server.parts.calling import open_calling
from server.parts.commerce import open_commerce
from server.parts.conversing import open_conversing
from server.parts.filing import open_filing
from server.parts.pushing import open_pushing
from server.parts.reviewing import open_reviewing
from server.parts.telling import open_telling
from server.tokens import InvalidSecret, Tokens, open_key, write_secret
from server.web.access import access_routes
from server.web.app import build_app
from server.web.disclosures import disclosure_routes
from server.web.exhibits import exhibit_routes
from server.web.extensions import extension_routes
from server.web.invites import invite_routes
from server.web.kyf import kyf_routes
from server.web.one_to_ones import one_to_one_routes
from server.web.ports import WebSettings
from server.web.profiles import profile_routes
from server.web.routes import Reception
from signalling.rooms.rooms import Rooms

log = structlog.get_logger("node")


class NodeFailed(Exception):
    """The node can't start; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Running:
    """A node that serves: where, and its parts that others in the same process may use."""

    url: str
    media: tuple[str, int]
    quic: tuple[str, int]
    auth: Auth
    rooms: Rooms
    access: Access
    consent: Consent


class SystemClock:
    """The machine's two clocks."""

    def now_ns(self) -> int:
        """Return the monotonic clock, by which packets are admitted."""
        return time.monotonic_ns()

    def wall_ms(self) -> int:
        """Return epoch milliseconds."""
        return time.time_ns() // 1_000_000


async def run_node(config: Config, *, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve until cancelled; reports when everything answers. Raises NodeFailed."""
    folder = Path(config.data.dir)
    lock = _claim(folder)
    try:
        async with _sole_use(config.data.database) as sole, trio.open_nursery() as nursery:
            if sole is not None:
                nursery.start_soon(_watch, sole)
            running = await _open(config, folder, nursery)
            addresses = {"media": "{}:{}".format(*running.media), "quic": "{}:{}".format(*running.quic)}
            log.info("serving", url=running.url, **addresses, data=str(folder))
            task_status.started(running)
    finally:
        os.close(lock)


@asynccontextmanager
async def _sole_use(url: str) -> AsyncIterator[SoleUse | None]:
    """Let no other node use the database, if there is one, until the last was written to it."""
    if not url:
        yield None
        return
    sole = SoleUse(url)
    try:
        try:
            await sole.take()
        except DatabaseTaken as taken:
            raise NodeFailed(_taken(taken)) from taken
        except DBAPIError as error:
            raise NodeFailed(f"can't use the database {sole.name}: {error.orig}") from error
        yield sole
    finally:
        with trio.CancelScope(shield=True):
            await sole.release()


async def _watch(sole: SoleUse) -> None:
    try:
        await sole.watch()
    except DatabaseTaken as taken:
        raise NodeFailed(f"the connection to the database was lost, and then {_taken(taken)}") from taken


def _taken(taken: DatabaseTaken) -> str:
    return f"{taken}: one database serves one node. Stop that server, or choose another database under [data]"


async def _open(config: Config, folder: Path, nursery: trio.Nursery) -> Running:
    try:
        return await _start(config, folder, nursery)
    except StoreFailed as error:
        raise NodeFailed(f"can't use the database ({error}): restore it, or choose another --data DIR") from error
    except OSError as error:
        raise NodeFailed(f"can't use {folder} for data ({error}): choose another with --data DIR") from error
    except InvalidSecret as error:
        raise NodeFailed(str(error)) from error


async def _start(config: Config, folder: Path, nursery: trio.Nursery) -> Running:
    store = PostgresStore(config.data.database) if config.data.database else Store(folder / "mesi.sqlite")
    await nursery.start(store.run)
    clock = SystemClock()
    issuers, everywhere = _open_issuers(config), demanded(config.kyf)
    access = Access(store, clock, everywhere=everywhere, tips=TipsGiven())
    await access.load()
    key = open_key(folder / "token.key")
    auth = Auth(store, Tokens(key), config.tokens.session_s, access.suspended)
    filing = open_filing(config.files, config.storage, store, clock, folder, key, access.suspended, nursery)
    archive = StoredArchive(store)
    media = _open_media(config)
    await nursery.start(lambda task_status: media.run(task_status=task_status))
    telling = await open_telling(config, store, clock.wall_ms, nursery)
    rooms = Rooms(media, archive, clock, access, telling.feed)
    await nursery.start(lambda task_status: rooms.run(task_status=task_status))
    await nursery.start(lambda task_status: access.run(rooms, task_status=task_status))
    assets = Assets(config.assets)
    desk = OneToOneDesk(
        store,
        rooms,
        clock,
        assets,
        config.money.fee_bps,
        confirm_s=config.one_to_one.confirm_s,
        judge=access.finding,
        require_proven=access.require_proven,
    )
    await desk.recover()
    rooms.attend(desk)
    nursery.start_soon(desk.run)
    consent = Consent(store, clock, rooms, desk.void_hold)
    await nursery.start(consent.run)
    wait_beyond = telling.feed.wait_beyond
    commerce = await open_commerce(
        config, assets, store, clock, archive.find_account, rooms, access, wait_beyond, nursery
    )
    reviewing = await open_reviewing(
        config, assets, store, clock, rooms, access, commerce, desk, telling.feed.nudge, nursery
    )
    people = People(store, clock, access, rooms, reviewing.desk)
    conversing = open_conversing(config.messages, store, clock, rooms, telling.feed, nursery)
    bids = open_bids(store, clock, assets, config.money.fee_bps, conversing.paces, telling.feed, nursery)
    calling = await open_calling(
        store, clock, media, rooms, access, people, telling.feed, conversing, config.ice_servers, nursery
    )
    pushing = await open_pushing(config.push, store, clock, folder, telling.feed, rooms, access, nursery)
    sockets = SignallingSocket(rooms, auth, config.limits.write_timeout_s)
    await nursery.start(sockets.run)
    moq = MoqReception(media.relay, rooms.moq_sessions, auth, SystemClock())
    await nursery.start(moq.run)
    qmux = QmuxSocket(media.relay, moq.admit)

    def count() -> dict[str, int]:
        return {
            **media.counters(),
            **rooms.counters(),
            **sockets.counters(),
            **store.counters(),
            **access.counters(),
            **consent.counters(),
            **commerce.counters(),
            **desk.counters(),
            **telling.counters(),
            **conversing.counters(),
            **calling.counters(),
            **bids.counters(),
            **reviewing.counters(),
            **filing.counters(),
            **pushing.counters(),
            **edge.counters(),
            **reception.counters(),
            **moq.counters(),
            **qmux.counters(),
            **quic.counters(),
            "tasks": trio.lowlevel.current_statistics().tasks_living,
        }

    longest_s, largest = config.tokens.longest_s, config.files.largest
    settings = WebSettings(config.limits, config.rates, config.ice_servers, longest_s, largest)
    app = build_app(
        rooms,
        auth,
        settings,
        find_account=archive.find_account,
        metrics=lambda: metrics.render(count()),
        quic=lambda: (quic.address[1], quic.certificate_sha256),
        more=[
            *access_routes(people, archive.find_account),
            *profile_routes(people),
            *invite_routes(Guests(store, clock, access, rooms)),
            *disclosure_routes(consent),
            *kyf_routes(Proofs(store, clock, access, rooms, issuers), everywhere),
            *commerce.routes,
            *one_to_one_routes(desk),
            *extension_routes(desk.extensions),
            *telling.routes,
            *conversing.routes,
            *calling.routes,
            *bids.routes,
            *reviewing.routes,
            *filing.routes,
            *exhibit_routes(reviewing.desk, filing.desk),
            *pushing.routes,
        ],
    )
    reception: Reception = app.extensions["reception"]
    tls = server_context(folder, config.listen.host)
    nursery.start_soon(keep_fresh, tls, folder, config.listen.host)
    edge = Edge(config.listen.host, config.listen.port, app, sockets.serve, qmux.serve, tls, config.limits)
    try:
        bound = await nursery.start(edge.serve)
    except OSError as error:
        where = f"{config.listen.host}:{config.listen.port}"
        raise NodeFailed(f"can't listen on {where} ({error}): choose another with --listen HOST:PORT") from error
    services = ByteServices({"ws": ByteService(WEBTRANSPORT_PROTOCOLS, sockets.serve_session)})
    quic = _open_quic(config, bound, media, moq, services)
    await nursery.start(lambda task_status: quic.run(task_status=task_status))
    url = _url(bound.host, bound.port)
    write_secret(folder / "admin.token", await auth.admin_token())
    write_secret(folder / "server.url", url)
    return Running(url, media.address, quic.address, auth, rooms, access, consent)


def _open_issuers(config: Config) -> Issuers:
    try:
        return Issuers(config.kyf_issuers)
    except ValueError as error:
        raise NodeFailed(f"kyf_issuers in the configuration: {error}") from error


def _open_media(config: Config) -> Media:
    limits = config.limits
    settings = MediaSettings(
        (config.media.hosts[0], config.media.port),
        tuple(parse_address(extra, "advertise") for extra in config.media.advertise),
        config.media.tcp_port if config.media.tcp else None,
        tuple((host, config.media.port) for host in config.media.hosts[1:]),
        MediaLimits(
            rooms=limits.rooms,
            transports=limits.transports,
            tracks=limits.tracks,
            subscriptions=limits.subscriptions,
        ),
        config.media.threads,
    )
    try:
        return Media(settings)
    except OSError as error:
        first, *_, last = config.media.ports * 2
        where = f"{', '.join(config.media.hosts)} port {first}{f' to {last}' if last > first else ''}"
        raise NodeFailed(f"can't use {where} for media ({error}): choose another with --media HOST:PORT") from error


def _open_quic(config: Config, tcp: Address, media: Media, moq: MoqReception, services: ByteServices) -> Endpoint:
    """Bind QUIC where players look for it: under the number of the TCP port, unless the configuration says where."""
    host, port = config.quic.host or config.listen.host, config.quic.port or tcp.port
    names = tuple(dict.fromkeys(("localhost", "127.0.0.1", "::1", config.listen.host, *config.quic.names)))
    settings = EndpointSettings(host, port, names, config.quic.connections)
    try:
        return Endpoint(settings, media.relay, moq.admit, services=services)
    except OSError as error:
        if config.listen.port == config.quic.port == 0:  # any port will do, and this one is another's over UDP
            anywhere = replace(settings, port=0)
            return Endpoint(anywhere, media.relay, moq.admit, services=services)
        where = f"{host}:{port}"
        raise NodeFailed(f"can't use UDP {where} for QUIC ({error}): choose another under [quic]") from error


def _claim(folder: Path) -> int:
    """Make the data directory this process' own; returns the descriptor that holds it."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise NodeFailed(f"can't use {folder} for data ({error.strerror}): choose another with --data DIR") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise NodeFailed(f"another server uses {folder}: stop it, or choose another with --data DIR") from error
    return lock


def _url(host: str, port: int) -> str:
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    scheme = "http" if local in ("127.0.0.1", "::1", "localhost") else "https"
    return f"{scheme}://{bracketed(local)}:{port}"
