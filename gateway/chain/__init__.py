"""What the chain says, read only. web3 is loaded by `reader` and what imports it: lazily, from the daemon."""
