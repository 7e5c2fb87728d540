"""An example plugin for curate: a stage in ten lines, and an executor whose workers are threads."""
