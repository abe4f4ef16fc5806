"""Train a network on samples: the loop, its schedule, and the parts of a step."""
