"""The commands, one module each with a function `run(parsed) -> exit status`; imported only when they are called."""
