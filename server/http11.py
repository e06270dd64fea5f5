"""HTTP/1.1 by Hypercorn over one connection, kept to what it does well: no HTTP/2, and no write that never ends."""

from __future__ import annotations

from collections import Counter

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState

STATUS_LINE = b"HTTP/1.1 "


class GuardedStream(trio.abc.HalfCloseableStream):
    """A stream for Hypercorn: first gives back what was read of it, and writes within a deadline.

    Hypercorn shields its writes from cancellation, so a peer that stops reading would hold the server's end up. Closing
    it ends Hypercorn's use alone: the connection is still there, for its owner to end in order.
    """

    def __init__(self, stream: trio.abc.Stream, received: bytes, write_timeout_s: float) -> None:
        self._stream, self._received, self._write_timeout_s = stream, received, write_timeout_s
        self.use = trio.CancelScope()  # ends with the first write that fails
        self.is_broken = self.gave_up = False  # nothing can be written any more; because the peer does not read
        self._closed = False
        self._reading: trio.CancelScope | None = None
        if isinstance(stream, trio.SocketStream):
            self.socket = stream.socket
        else:
            # By these names Hypercorn tells TLS from plain.
            assert isinstance(stream, trio.SSLStream)
            self.transport_stream = stream.transport_stream
            self.do_handshake = stream.do_handshake
            self.selected_alpn_protocol = lambda: "http/1.1"

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return what comes; raises trio.ClosedResourceError when closed meanwhile, too."""
        if self._received:
            await trio.lowlevel.checkpoint()
            received, self._received = self._received, b""
            return received
        if not self._closed:
            with trio.CancelScope() as self._reading:
                return await self._stream.receive_some(max_bytes)
        raise trio.ClosedResourceError

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; raises trio.BrokenResourceError when the peer does not read in time, and the connection is over."""
        if self._closed:
            raise trio.ClosedResourceError
        try:
            with trio.fail_after(self._write_timeout_s):
                await self._stream.send_all(data)
        except trio.TooSlowError:
            self.gave_up = True
            self._end()
            raise trio.BrokenResourceError("the peer does not read") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._end()
            raise

    def _end(self) -> None:
        # Hypercorn may wait for ever for the end of an answer that it could not write.
        self.is_broken = True
        self.use.cancel()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Say nothing more; the connection's owner tells the peer."""
        # Hypercorn ends connections in tasks that are cancelled, too, and must get as far as `aclose`.
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def aclose(self) -> None:
        """End Hypercorn's use of the connection."""
        self._closed = True
        if self._reading is not None:
            self._reading.cancel()
        await trio.lowlevel.cancel_shielded_checkpoint()


class Http11Server(TCPServer):
    """Serves one connection; `responses` counts what is answered, by "2xx" and the like."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        state: ConnectionState,
        stream: GuardedStream,
        responses: Counter[str],
    ) -> None:
        super().__init__(app, config, context, state, stream)  # type: ignore[arg-type]
        self._use, self._responses = stream.use, responses

    async def run(self) -> None:
        """Serve until one side has ended the connection."""
        with self._use:
            await super().run()

    async def protocol_send(self, event: Event) -> None:
        """Send, and count each status line."""
        if isinstance(event, RawData) and event.data.startswith(STATUS_LINE):
            self._responses[f"{chr(event.data[len(STATUS_LINE)])}xx"] += 1
        await super().protocol_send(event)

    async def _read_data(self) -> None:
        protocol = self.protocol.protocol
        assert isinstance(protocol, H11Protocol)
        create_stream = protocol._create_stream

        async def create_plain_stream(request: h11.Request) -> None:
            await create_stream(_without_upgrade(request))

        # It would go over to HTTP/2 or to a WebSocket of its own for whoever asks. There is neither here, and asking is
        # no error (RFC 9110 section 7.8): the request is answered as if it had not asked.
        protocol._check_protocol = _stay  # type: ignore[method-assign, assignment]
        protocol._create_stream = create_plain_stream  # type: ignore[method-assign]
        await super()._read_data()
        await self.idle_task.stop()  # else an ended connection would count as open until it had been idle for long


async def _stay(request: h11.Request) -> None:
    pass


def _without_upgrade(request: h11.Request) -> h11.Request:
    headers = [(name, value) for name, value in request.headers.raw_items() if name.lower() != b"upgrade"]
    return h11.Request(method=request.method, target=request.target, http_version=request.http_version, headers=headers)
