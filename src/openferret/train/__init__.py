"""How Kit was made: readers, stages and the figures they are judged by."""
