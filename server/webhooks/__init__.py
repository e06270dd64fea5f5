"""Webhooks: the event log, told to services elsewhere over HTTP (Standard Webhooks)."""
