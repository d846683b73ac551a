"""The only input and output on content files: plain blocking calls, run on worker threads by `net`."""
