"""Looking inside: what a trained network holds at every step, what moves it, and what it remembers. It computes and draws, and
knows no browser."""
