"""Between WebRTC's packets and MoQ's frames: the same stream for both kinds of client, without transcoding."""
