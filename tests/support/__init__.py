"""What several tests use: drawn photos, commands, trainings, damage, a browser."""
