"""Everything that is decided, and nothing that is done: values in, values out."""
