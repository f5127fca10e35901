"""What an endpoint may have beside its model server."""
