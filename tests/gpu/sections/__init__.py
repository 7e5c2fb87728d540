"""What `tests.gpu.run_sections` measures, one function a section: `python -m tests.gpu.sections NAME --device cuda`."""
