"""Models and frameworks."""
