"""A client of the door whose network lets no UDP through: its datagrams are framed in a TCP connection (RFC 4571)."""

from __future__ import annotations

import re
from contextlib import suppress

import trio

from media.webrtc.ice import Address, IceCredentials
from media.wire.framing import FrameReader, framed
from tests.media.test_door import Remote, World

CANDIDATE = re.compile(r"^a=candidate:\d+ 1 tcp \d+ (\S+) (\d+) typ host tcptype passive\r$", re.MULTILINE)


def tcp_candidate(answer: str) -> Address:
    found = CANDIDATE.search(answer)
    assert found is not None, answer
    return found[1], int(found[2])


class FramedSocket:
    """What a `Remote` needs of a socket, over TCP."""

    def __init__(self, receive_buffer: int = 0) -> None:
        self.tcp = trio.socket.socket()
        if receive_buffer:
            self.tcp.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
        self._reader = FrameReader()
        self._waiting: list[bytes] = []
        self.reads = trio.Event()
        self.reads.set()

    async def bind(self, _address: Address) -> None:
        """Connected is what it is."""

    async def sendto(self, datagram: bytes, _destination: Address) -> None:
        with suppress(trio.BrokenResourceError):  # a lost connection loses what is sent, as a network does
            await trio.SocketStream(self.tcp).send_all(framed([memoryview(datagram)]))

    async def recv(self, _most: int) -> bytes:
        while not self._waiting:
            await self.reads.wait()
            data = b""
            with suppress(ConnectionResetError):
                data = await self.tcp.recv(65_536)
            if not data:
                await trio.sleep_forever()
            self._waiting = self._reader.feed_untrusted(data)
        return self._waiting.pop(0)

    def close(self) -> None:
        self.tcp.close()


class FramedRemote(Remote):
    """A client over TCP."""

    def __init__(self, ice: IceCredentials, receive_buffer: int = 0) -> None:
        super().__init__(ice, ("", 0))
        self.socket.close()
        self.framed = FramedSocket(receive_buffer)
        self.socket = self.framed  # type: ignore[assignment]

    async def connect(self, answer: str, nursery: trio.Nursery) -> None:
        self.server = tcp_candidate(answer)
        await self.framed.tcp.connect(self.server)
        await super().connect(answer, nursery)


class FramedWorld(World):
    """A world whose remotes come over TCP."""

    receive_buffer = 0

    def remote(self) -> Remote:
        self.remotes.append(FramedRemote(IceCredentials.random(), self.receive_buffer))
        return self.remotes[-1]
