"""Files that leave with a model as they stand here: they import nothing of elman."""
