"""What is wrong with a table, in words, and the regular grid that is made of it."""
