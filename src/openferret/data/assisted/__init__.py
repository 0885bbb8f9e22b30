"""Dialogues written by language models that are told what is on a picture, and checked against it."""
