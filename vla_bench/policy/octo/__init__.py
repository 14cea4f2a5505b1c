"""Octo 1.0 and 1.5: generalist policies whose whole architecture is in the checkpoint's config.json."""
