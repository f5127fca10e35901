"""The protocol on gRPC (extra ``grpc``): the service, its messages built from a table, and sizes read off the wire."""
