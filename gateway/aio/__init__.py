"""What asyncio lacks: tasks that surface their exceptions, the event loop, client TLS, bounded reads."""
