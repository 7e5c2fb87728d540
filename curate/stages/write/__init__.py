"""Writers of published files."""
