"""Tests of the event log: who reads it, and how it is told to others."""
