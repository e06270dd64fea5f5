"""A MoQ publisher that resets its groups, wherever, costs viewers over WebRTC those groups and nothing else."""

from __future__ import annotations

import pytest

from media.bridge.intake import Intake
from media.moq.protocol.containers import wrap_legacy
from media.moq.protocol.frames import Frame
from media.moq.protocol.hang import Catalog, Video, VideoSection, write_catalog
from media.moq.protocol.versions import Version
from media.wire.codecs import Codec
from tests.bridge.test_intake import Sink
from tests.moq.test_relay import Client, Publishing, Stage

KEY, DELTA = b"\x10" + b"k" * 20, b"\x11" + b"d" * 20
BETWEEN_NS = 40_000_000


class Publisher:
    """One that is taken in, and writes the groups of its picture by hand."""

    def __init__(self, version: Version) -> None:
        self.stage, self.sink = Stage(), Sink()
        self.client = Client(self.stage.relay, version)
        publishing = Publishing(self.client)
        broadcast = self.stage.origin.find("room/eve")
        assert broadcast is not None
        self.intake = Intake(broadcast, ("video",), self.sink, self.stage.clock)
        self.intake.begin()
        self.request = publishing.serve(1_000_000)
        self._write(0, [write_catalog(Catalog(VideoSection({"video": Video("vp8")}), None))])
        self.request = publishing.serve(1_000_000)
        self.video = broadcast.tracks["video"]

    def group(self, sequence: int, payloads: list[bytes], upto: int | None = None) -> None:
        """Send a group, or so many bytes of its frames and then a reset."""
        stream = self._write(sequence, payloads, upto)
        self.client.settle()
        if upto is not None:
            self.client.up.reset(stream, 0)
            self.client.settle()

    def _write(self, sequence: int, payloads: list[bytes], upto: int | None = None) -> int:
        self.stage.clock.ns += BETWEEN_NS
        stream, writer = self.client.session.open_group(self.request, sequence)  # type: ignore[misc]
        frames = [Frame(1_000 * sequence + number, payload) for number, payload in enumerate(payloads)]
        data = b"".join(writer.header(frame) + frame.payload for frame in frames)
        self.client.up.write(stream, data[:upto], is_last=upto is None)
        return stream


@pytest.mark.parametrize("version", [Version.LITE_04, Version.LITE_05])
def test_a_group_reset_at_any_byte_costs_itself_alone(version: Version) -> None:
    publisher = Publisher(version)
    streams = len(publisher.client.peer.session._streams)
    wrapped = [wrap_legacy(1_000, KEY), wrap_legacy(2_000, DELTA)]
    for upto in range(len(b"".join(wrapped)) + 1):
        shown = len(publisher.sink.frames.get(Codec.VP8, ()))
        publisher.group(2 * upto, wrapped, upto)
        assert len(publisher.sink.frames.get(Codec.VP8, ())) - shown <= 1
        publisher.group(2 * upto + 1, wrapped)
        assert [frame.unit for frame in publisher.sink.frames[Codec.VP8][-2:]] == [KEY, DELTA]
    assert not publisher.intake.counts["frames_malformed"]
    assert len(publisher.client.peer.session._streams) == streams
    assert all(group.is_finished for group in publisher.video.groups.values())
