"""Live cameras: addresses, readers that reconnect, steps, and metrics."""
