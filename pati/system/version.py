"""The version of pati."""

VERSION = "0.1.0"
