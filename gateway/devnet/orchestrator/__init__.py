"""An orchestrator like go-livepeer's: gRPC and HTTPS, all checks of a payment, debits by the second."""
