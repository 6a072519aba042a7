"""Per-frame models, one paper per file; they satisfy `vsr.models.upscaler.Upscaler`."""
