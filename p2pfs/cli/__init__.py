"""The commands: typer in, rich out; a thin face on the engine."""
