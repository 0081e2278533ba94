"""What kinds of jobs share that are paid through the signer and relay frames over trickle channels."""
