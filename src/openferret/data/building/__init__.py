"""From a recipe to a data set: sources read, samples written and chosen, leaks kept out, shards joined."""
