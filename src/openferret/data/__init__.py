"""Training data in the forms that others publish it in."""
