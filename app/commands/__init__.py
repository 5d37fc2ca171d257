"""What the commands of `mpdit` do: one file a subject, imported when it is asked for."""
