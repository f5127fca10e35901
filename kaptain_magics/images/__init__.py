"""Container images of training scripts: what goes in, its digest, build, push, skip."""
