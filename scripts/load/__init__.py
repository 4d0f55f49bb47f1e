"""Servers as processes, and clients that load them."""
