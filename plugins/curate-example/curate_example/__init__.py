"""What a plugin for curate looks like: one small module for each extension point."""
