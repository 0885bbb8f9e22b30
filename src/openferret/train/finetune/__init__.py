"""Your own boxes in one command: read and check them, teach them to a model, measure it before and after."""
