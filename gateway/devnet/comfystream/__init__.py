"""A ComfyStream server without a GPU: its HTTP and data-channel interface, with simple effects."""
