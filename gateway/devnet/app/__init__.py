"""An app behind live runners, `livepeer-example/echo`: changes the picture, registers itself by heartbeat."""
