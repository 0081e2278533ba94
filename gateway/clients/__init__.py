"""`livepeer-gateway publish`, `play` and `smoke`: clients of any WHIP and WHEP server, made of aiortc."""
