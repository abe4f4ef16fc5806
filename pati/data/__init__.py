"""From a user's files to arrays: sources, audit, manifest, pack, loader."""
