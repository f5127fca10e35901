"""The loaders: one module per framework, each imported only when a model of its framework is served."""
