"""The only asyncio: sockets, tasks, timers, and the composition of everything below."""
