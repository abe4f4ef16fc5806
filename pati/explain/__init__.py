"""Where in a photo a net found its reasons. Knows nets and tensors only."""
