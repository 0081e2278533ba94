"""Reads the chain, never writes. Only `reader` imports web3; the daemon loads it when needed."""
