"""`elman serve`: trained models behind HTTP, for any client that speaks OpenAI's protocol, and for live series."""
