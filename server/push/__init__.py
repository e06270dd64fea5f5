"""Web Push: notices of what happened, for devices whose page is not open."""
