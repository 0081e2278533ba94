"""Jobs on the network's orchestrators, paid through the remote signer."""
