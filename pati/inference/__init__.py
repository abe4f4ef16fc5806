"""A trained net as people hold it: photos in, classes out. Needs nothing of the training code."""
