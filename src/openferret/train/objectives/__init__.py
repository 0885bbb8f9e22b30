"""What is learned: losses as sums, each from its own targets, and the model that carries them."""
