"""Honest scores: origins, what came after them, figures, calibration, backtests."""
