"""The lifecycle: the only place where what is decided meets what is done."""
