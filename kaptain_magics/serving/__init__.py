"""The model server: the Open Inference Protocol V2 over HTTP and gRPC, and the loaders of the frameworks."""
