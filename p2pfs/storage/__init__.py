"""The only input and output on content files: blocking calls, run on worker threads by `net`."""
