"""Numbers -> figures and HTML files that need no network, in English and Turkish."""
