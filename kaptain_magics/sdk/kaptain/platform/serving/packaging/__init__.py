"""What model servers need beside a model."""
