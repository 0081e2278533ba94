"""`livepeer-gateway doctor`: looks at everything that a stream needs, before there is one."""
