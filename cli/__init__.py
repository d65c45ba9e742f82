"""The command line: parse, call a flow or the registry, print."""
