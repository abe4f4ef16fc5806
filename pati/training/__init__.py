"""From samples and a net to a trained net: the loop, what it is paced by, and what it is made of."""
