"""What `Registry` does, by subject; `registry.registry` puts it together."""
