"""Translation of messages, and formatting of numbers and dates for a language.

The code contains every message in English, marked with `N_`. Each other language is one catalogue,
LANGUAGE/LC_MESSAGES/pati.po.
"""
