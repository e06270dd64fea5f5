"""Which clients are run against the server, what each does there, and the tests that show it, as the README says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.peers import PUBLISHERS, VIEWERS
from tests.clients.test_losses import RESTARTING
from tests.test_conformance import names_in

README = Path(__file__).resolve().parents[1] / "README.md"
CHROMIUM, WHOLE, LOSSES = "clients/test_chromium.py", "clients/test_whole_server.py", "clients/test_losses.py"
LAYERS = "clients/test_chromium_layers.py"
BROWSERS, MATRIX = "browser/test_watching.py", "matrix/test_matrix.py"

Test = tuple[str, str]
PLAYED: Test = (CHROMIUM, "test_chromium_publishes_and_chromium_decodes_until_it_is_cut_off")
BOTH: Test = (BROWSERS, "test_both_browsers_watch_what_either_publishes")
FFMPEG: Test = (WHOLE, "test_ffmpeg_publishes_h264_and_chromium_decodes_it_through_a_turn_server")
GSTREAMER: Test = (WHOLE, "test_gstreamer_publishes_and_chromium_gstreamer_and_werift_watch")
AIORTC: Test = (WHOLE, "test_aiortc_publishes_over_whip_and_watches_over_whep")
WRTC: Test = (WHOLE, "test_wrtc_publishes_and_chromium_and_wrtc_watch")
EYEVINN: Test = (WHOLE, "test_the_publisher_and_the_player_of_eyevinn_work_from_another_origin")
SENT: Test = (LOSSES, "test_what_a_publisher_s_network_loses_it_sends_again")
GOT: Test = (LOSSES, "test_what_a_viewer_s_network_loses_is_sent_again")
RESTARTED: Test = (LOSSES, "test_a_viewer_restarts_ice_and_goes_on")

COLUMNS = ("publishes", "watches", "video", "simulcast / SVC", "loss repair", "ICE restart", "TCP")
NO = "–"
# client -> column -> what is said of it, and what shows that
CLIENTS: dict[str, dict[str, tuple[str, tuple[Test, ...]]]] = {
    "Chromium": {
        "publishes": ("yes", (PLAYED, BOTH)),
        "watches": ("yes", (PLAYED, BOTH)),
        "video": ("VP8, VP9, H264, AV1", (PLAYED,)),
        "simulcast / SVC": (
            "VP8, H264 / VP8, VP9, AV1",
            (
                (CHROMIUM, "test_chromium_s_simulcast_is_watched_in_the_layer_that_is_wished_for"),
                (LAYERS, "test_a_viewer_of_vp8_gets_a_part_of_the_pictures_and_all_of_them_again_and_can_decode_each"),
                (LAYERS, "test_a_viewer_of_vp9_goes_to_a_smaller_picture_and_back_and_decodes_all_along"),
                (LAYERS, "test_viewers_of_layered_av1_get_what_they_can_decode"),
            ),
        ),
        "loss repair": ("yes", (SENT, GOT)),
        "ICE restart": ("yes", (RESTARTED,)),
        "TCP": ("yes", (PLAYED, BOTH)),
    },
    "Firefox": {
        "publishes": ("yes", (BOTH,)),
        "watches": ("yes", (BOTH,)),
        "video": ("VP8", (BOTH,)),
        "simulcast / SVC": ("VP8 / –", ((BROWSERS, "test_who_wants_a_small_picture_gets_one_and_the_whole_one_back"),)),
        "loss repair": ("yes", (SENT, GOT)),
        "ICE restart": ("yes", (RESTARTED,)),
        "TCP": ("yes", (BOTH,)),
    },
    "FFmpeg": {
        "publishes": ("yes", (FFMPEG, (MATRIX, "test_it_is_seen_and_heard_together"))),
        "video": ("H264", (FFMPEG,)),
        "loss repair": ("yes", (SENT,)),
    },
    "GStreamer": {
        "publishes": ("yes", (GSTREAMER,)),
        "watches": ("yes", (GSTREAMER,)),
        "video": ("VP8, H264", (GSTREAMER,)),
        "loss repair": ("of what it sends", (SENT,)),
    },
    "aiortc": {
        "publishes": ("yes", (AIORTC,)),
        "watches": ("yes", (AIORTC,)),
        "video": ("VP8", (AIORTC,)),
        "loss repair": ("of what it sends", (SENT,)),
    },
    "@roamhq/wrtc": {
        "publishes": ("yes", (WRTC,)),
        "watches": ("yes", (WRTC,)),
        "video": ("VP8", (WRTC,)),
        "loss repair": ("yes", (SENT, GOT)),
        "ICE restart": ("yes", (RESTARTED,)),
    },
    "werift": {
        "watches": ("packets, not decoded", (GSTREAMER,)),
        "video": ("VP8, H264", (GSTREAMER,)),
        "loss repair": ("yes", (GOT,)),
    },
    "@eyevinn/whip-web-client": {
        "publishes": ("yes", (EYEVINN,)),
        "video": ("as Chromium", (EYEVINN,)),
        "loss repair": ("yes", (SENT,)),
    },
    "@eyevinn/webrtc-player": {
        "watches": ("yes", (EYEVINN,)),
        "video": ("as Chromium", (EYEVINN,)),
        "loss repair": ("yes", (GOT,)),
    },
}


@pytest.mark.parametrize("client", CLIENTS)
def test_what_is_said_of_a_client_is_shown_by_tests_that_exist(client: str) -> None:
    for column, (_, tests) in CLIENTS[client].items():
        assert column in COLUMNS
        assert tests, column
        for module, name in tests:
            assert name in names_in(module), f"{module} has no {name}"


def test_who_is_said_to_repair_losses_and_to_restart_ice_is_put_to_it() -> None:
    def shown_by(test: Test) -> set[str]:
        return {client for client, said in CLIENTS.items() if any(test in tests for _, tests in said.values())}

    assert shown_by(SENT) == set(PUBLISHERS)
    assert shown_by(GOT) == set(VIEWERS)
    assert shown_by(RESTARTED) == set(RESTARTING)


def test_the_readme_has_the_same_table() -> None:
    rows = [("client", *COLUMNS), ("---",) * (1 + len(COLUMNS))]
    rows += [(client, *[said.get(column, (NO, ()))[0] for column in COLUMNS]) for client, said in CLIENTS.items()]
    assert "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n" in README.read_text()
