"""Clients, links and models that tests and benchmarks share."""
