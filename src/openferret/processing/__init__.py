"""Pictures, words and regions become the arrays that a model takes."""
