"""Who is connected: signalling sessions, and those of WHIP, WHEP and MoQ clients."""
