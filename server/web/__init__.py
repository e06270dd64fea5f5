"""The HTTP side: API, WHIP, WHEP and the page, on quart-trio. Handlers are thin: validate, ask, encode."""
