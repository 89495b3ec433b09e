"""Tables larger than memory: prepared once, part by part, and then used from files that are mapped into memory."""
