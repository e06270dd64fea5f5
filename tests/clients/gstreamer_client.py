"""GStreamer's webrtcbin as a process of Debian's own Python: publishes over WHIP, or watches over WHEP and reports.

`simple-whip-client` of Debian 12 is the same webrtcbin, but ends at once: it brings libsoup 2, and libnice libsoup 3.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

SECONDS = 60  # a process that nobody ends stops by itself
FRAMES = 20  # before the first report
REPORTED = 5  # frames between two
PICTURE = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=25/1 ! videoconvert"
SOUND = "audiotestsrc is-live=true ! audioconvert ! opusenc ! rtpopuspay pt=97"
ENCODERS = {
    "VP8": "vp8enc deadline=1 target-bitrate=500000 ! rtpvp8pay pt=96 picture-id-mode=2",
    "H264": "openh264enc bitrate=500000 ! video/x-h264,profile=constrained-baseline ! rtph264pay pt=96",
}
DECODERS = {"VP8": "rtpvp8depay ! vp8dec", "H264": "rtph264depay ! h264parse ! openh264dec"}
FORMATS = {"VP8": "", "H264": ",packetization-mode=(string)1,profile-level-id=(string)42e01f"}
RTP = "application/x-rtp,media={media},encoding-name={name},payload={number},clock-rate={rate}"
AUDIO = RTP.format(media="audio", name="OPUS", number=97, rate=48_000) + ",encoding-params=(string)2"


class Client:
    """One peer connection, its offer sent once all is gathered."""

    def __init__(self, role: str, url: str, token: str, codec: str) -> None:
        self.url, self.token, self.codec = url, token, codec
        self.decoded = {"audio": 0, "video": 0}
        video = RTP.format(media="video", name=codec, number=96, rate=90_000) + FORMATS[codec]
        tracks = f"{PICTURE} ! {ENCODERS[codec]} ! {video} ! peer. {SOUND} ! {AUDIO} ! peer."
        peer = "webrtcbin name=peer bundle-policy=max-bundle"
        self.pipeline = Gst.parse_launch(f"pipeline.( {peer} {tracks if role == 'publish' else ''} )")
        self.peer = self.pipeline.get_by_name("peer")
        # libnice leaves out loopback, which is all that the tests use, unless told to.
        self.agent = self.peer.get_property("ice-agent")  # webrtcbin has no reference of its own to it
        self.agent.emit("add-local-ip-address", "127.0.0.1")
        if role == "watch":
            for caps in (video, AUDIO):
                direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
                self.peer.emit("add-transceiver", direction, Gst.Caps.from_string(caps))
        self.peer.connect("on-new-transceiver", lambda _, transceiver: self.prepare(transceiver))
        for number in range(2):
            self.prepare(self.peer.emit("get-transceiver", number), sends=role == "publish")
        self.peer.connect("on-negotiation-needed", lambda _: self.offer())
        self.peer.connect("notify::ice-gathering-state", lambda *_: self.gathered())
        self.peer.connect("pad-added", lambda _, pad: self.receive(pad))

    def prepare(self, transceiver: Any, *, sends: bool = False) -> None:
        """Have what is lost sent again (RFC 4588), and say which way media goes."""
        transceiver.set_property("do-nack", True)
        if sends:
            transceiver.set_property("direction", GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY)

    def offer(self) -> None:
        promise = Gst.Promise.new_with_change_func(self.offered)
        self.peer.emit("create-offer", None, promise)

    def offered(self, promise: Any) -> None:
        reply = promise.get_reply()  # owns the offer
        self.peer.emit("set-local-description", reply.get_value("offer"), Gst.Promise.new())

    def gathered(self) -> None:
        if self.peer.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            GLib.idle_add(self.negotiate)

    def negotiate(self) -> None:
        offer = self.peer.get_property("local-description").sdp.as_text()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/sdp"}
        with urllib.request.urlopen(urllib.request.Request(self.url, offer.encode(), headers), timeout=20) as answer:
            _, sdp = GstSdp.SDPMessage.new_from_text(answer.read().decode())
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
        self.peer.emit("set-remote-description", answer, Gst.Promise.new())

    def receive(self, pad: Any) -> None:
        kind = pad.get_current_caps().get_structure(0).get_string("media")
        decoder = DECODERS[self.codec] if kind == "video" else "rtpopusdepay ! opusdec"
        chain = Gst.parse_bin_from_description(f"{decoder} ! fakesink name=sink signal-handoffs=true sync=false", True)
        chain.get_by_name("sink").connect("handoff", lambda *_: self.count(kind))
        self.pipeline.add(chain)
        chain.sync_state_with_parent()
        pad.link(chain.sinkpads[0])

    def count(self, kind: str) -> None:
        self.decoded[kind] += 1
        is_due = kind == "video" and self.decoded["video"] % REPORTED == 0
        if is_due and min(self.decoded.values()) >= FRAMES:
            sys.stdout.write(json.dumps({"decoded": self.decoded}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    Gst.init(None)
    client = Client(*sys.argv[1:])
    client.pipeline.set_state(Gst.State.PLAYING)
    GLib.timeout_add_seconds(SECONDS, sys.exit, 1)
    GLib.MainLoop().run()
