"""A record of a source -> samples, for every task of the paper, worded by a file that a person can edit."""
