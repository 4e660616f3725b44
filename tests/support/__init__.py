"""What tests of the kernel, the runtimes and the engines share."""
