"""Many nodes as one gateway: who is there, who owns which stream, requests to the owner, over NATS."""
