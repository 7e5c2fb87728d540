"""What a plugin for curate looks like: a stage in ten lines, and an executor whose workers are threads."""
