"""Leaving home: what a trained model becomes elsewhere."""
