"""What asks an endpoint; runs in the notebook: data to tensors, kept connections, answers to arrays."""
