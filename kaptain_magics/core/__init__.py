"""Value types shared by every room: immutable, serialisable, without behaviour that touches the outside."""
