"""What a network has to beat, asked and scored in the same way."""
