"""A kind of job: an app on a live runner of the network, reserved for a session and paid by the second."""
