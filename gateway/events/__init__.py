"""Events delivered to the operator's webhook and written to a file."""
