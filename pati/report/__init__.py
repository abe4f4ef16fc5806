"""Numbers -> figures and HTML files that need no network, in every language at once."""
