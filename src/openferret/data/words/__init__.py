"""English, as far as questions about pictures need it: articles, kinds of things, relations, noun phrases."""
